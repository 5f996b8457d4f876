"""torch.compile of both networks, held against the uncompiled ones before a training trusts it.

The generator is compiled as a whole and the discriminator's trunk, which is nearly all of its work, both in place:
weights keep their names, DDP wraps the same modules, and the averaged copy stays as it was. A compiled graph has no
second derivative, so a step with a gradient penalty runs under `disable_compile`.

Compilers are sometimes wrong without a word. torch 2.13's reads a sum before it is complete where a backward scatters
(https://github.com/pytorch/pytorch/pull/185873, mended after it): gradients behind it were zeros. The networks have no
such backward when they are compiled, and `compile_networks` compares gradients before anything depends on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shards.core.errors import UserError
from trainer.networks import Architecture
from trainer.networks.discriminator import Discriminator

# How far a compiled gradient may lie from the uncompiled one, as a share of its norm: a sum in another order, in half
# precision also a rounding left out between two fused operations. A wrong one is off by about its norm.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}
_NEGLIGIBLE = 0.01  # of all gradients' norm: smaller ones (a bias before BatchNorm has none) are held to this share


def disable_compile(when: bool = True) -> AbstractContextManager[object]:
    """What runs within is not compiled, if ``when``."""
    return torch.compiler.set_stance("force_eager") if when else contextlib.nullcontext()


def compile_networks(
    g: nn.Module,
    d: Discriminator,
    architecture: Architecture,
    *,
    drawn: int,
    seen: int,
    autocast: Callable[[], torch.autocast],
) -> None:
    """Compile G and D's trunk in place, for batches of one size, and compare their gradients with the uncompiled ones.

    A spectrally normalised D stays uncompiled: its weights are worked out anew inside its forward. The comparison needs
    a few forwards and backwards and leaves weights and buffers as they were.

    Args:
        g, d: networks on their device, with all gradients wanted.
        architecture: their shapes.
        drawn: pictures that G draws at once.
        seen: pictures that D sees at once in its own step.
        autocast: opens the run's mixed precision.

    Raises:
        UserError: this machine cannot compile, or gradients differ.
    """
    g.compile(dynamic=False)
    sample = _Sample(architecture, next(g.parameters()))
    with _restored(g), _explained():
        sample.fill_zeros(g)
        _compare("generator", g, lambda n: g(*sample.latents(n)), drawn, [], autocast)
    if any(parametrize.is_parametrized(module) for module in d.modules()):
        return
    d.trunk = torch.compile(d.trunk, dynamic=False)
    with _restored(d), _explained():
        sample.fill_zeros(d)
        pictures = sample.normal(seen, 3, architecture.size, architecture.size)
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        _compare("discriminator", d, lambda n: d(pictures, *sample.latents(n)[1:]), seen, [], autocast)
        d.requires_grad_(False).eval()  # as in G's step, where the gradient is that of the pictures
        x_hat = pictures[:drawn].clone(memory_format=torch.channels_last).requires_grad_()
        _compare("discriminator", d, lambda n: d(x_hat, *sample.latents(n)[1:]), len(x_hat), [x_hat], autocast)
        d.requires_grad_(True).train()


class _Sample:
    """Numbers to compare with; drawn by a generator of its own, so that no other draw depends on them."""

    def __init__(self, architecture: Architecture, like: Tensor) -> None:
        self.architecture, self.like = architecture, like
        self.generator = torch.Generator(like.device).manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.like.device, dtype=self.like.dtype)

    def latents(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """z (count, noise), label (count, L), known (count, A): the same at each call."""
        self.generator.manual_seed(1)
        widths = self.architecture.widths
        z, label = self.normal(count, self.architecture.noise), self.normal(count, sum(widths))
        return z, label, torch.ones(count, len(widths), device=z.device, dtype=z.dtype)

    @torch.no_grad()
    def fill_zeros(self, network: nn.Module) -> None:
        """Weights that start at zero let no gradient through; here they must."""
        for parameter in network.parameters():
            if not parameter.any():
                parameter.copy_(0.05 * self.normal(*parameter.shape))


def _compare(
    name: str,
    network: nn.Module,
    forward: Callable[[int], Tensor],
    count: int,
    inputs: list[Tensor],
    autocast: Callable[[], torch.autocast],
) -> None:
    """Hold the gradients of the compiled forward against those of the same one uncompiled.

    Args:
        inputs: whose gradients; if there are none, the network's weights.

    Raises:
        UserError: they differ.
    """
    weights = dict(network.named_parameters())
    wanted = inputs or list(weights.values())
    labels = ["its pictures"] if inputs else list(weights)

    def gradients() -> tuple[Tensor, ...]:
        with autocast():
            outputs = forward(count)
        towards = torch.linspace(-1, 1, outputs.numel(), device=outputs.device).view_as(outputs).to(outputs.dtype)
        return torch.autograd.grad(outputs, wanted, towards)

    with disable_compile():
        expected = gradients()
    with torch.no_grad(), autocast():  # D's step calls G so; it is a graph of its own
        forward(count)
    found = gradients()
    if wrong := _different(expected, found, labels, _tolerance(wanted[0], autocast())):
        raise UserError(
            f"--compile: torch {torch.__version__} computes wrong gradients of the {name} here ({', '.join(wrong[:3])}"
            f"{' …' if len(wrong) > 3 else ''} differ from the uncompiled ones); leave --compile out"
        )


def _different(
    expected: tuple[Tensor, ...], found: tuple[Tensor, ...], labels: list[str], tolerance: float
) -> list[str]:
    """Names of the gradients that are further from the expected ones than rounding explains."""
    norms = torch.stack([gradient.norm().double() for gradient in expected])
    errors = torch.stack([(a - b).norm().double() for a, b in zip(expected, found, strict=True)])
    bounds = tolerance * norms.clamp(min=_NEGLIGIBLE * float(norms.norm()))
    return [label for label, right in zip(labels, (errors <= bounds).tolist(), strict=True) if not right]


def _tolerance(weight: Tensor, autocast: torch.autocast) -> float:
    return _TOLERANCE[autocast.fast_dtype if autocast._enabled else weight.dtype]


@contextlib.contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Weights and buffers are afterwards what they were."""
    saved = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        yield
    finally:
        network.load_state_dict(saved)


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """What the compiler could not do, as a sentence."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        first_line = str(error).strip().splitlines()[0]
        needs = "a GPU needs Triton" if torch.cuda.is_available() else "a CPU needs a C++ compiler (g++ or clang++)"
        raise UserError(
            f"--compile: torch cannot compile here ({first_line}); {needs}; install it or leave --compile out"
        ) from None
