"""Compile both networks with torch.compile, and check their gradients against the uncompiled ones before training.

The generator is compiled as a whole; of the discriminator, the trunk, which is nearly all of its work. Both are
compiled in place: weights keep their names, DDP wraps the same modules, and the averaged copy is not affected. A
compiled graph has no second derivative, so a step with a gradient penalty runs under `disable_compile`.

A compiler can be silently wrong. That of torch 2.13 reads a sum before it is complete if a backward scatters
(https://github.com/pytorch/pytorch/pull/185873, fixed later): gradients upstream of it were zeros. The compiled parts
of the networks have no such backward, and `compile_networks` compares gradients before anything depends on them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from shards.core.errors import UserError
from trainer.distributed.frozen import frozen
from trainer.networks import Architecture
from trainer.networks.discriminator import Discriminator

# Largest difference between a compiled gradient and the uncompiled one, relative to its norm: sums are in another
# order, and in half precision fusing omits roundings. A wrong gradient differs by about its norm.
_TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-3, torch.float16: 0.1, torch.bfloat16: 0.1}
_NEGLIGIBLE = 0.01  # of the norm of all gradients: the bound of smaller ones (that of a bias before BatchNorm is 0)


def disable_compile(when: bool = True) -> AbstractContextManager[object]:
    """Run compiled modules eagerly in this context, if ``when``."""
    return torch.compiler.set_stance("force_eager") if when else contextlib.nullcontext()


def compile_networks(
    g: nn.Module,
    d: Discriminator,
    architecture: Architecture,
    *,
    generated: Sequence[int],
    scored: int,
    joint: bool,
    autocast: Callable[[], torch.autocast],
) -> None:
    """Compile G and D's trunk in place for some batch sizes, and compare their gradients with the uncompiled ones.

    A D with spectral normalization stays uncompiled: its forward recomputes its weights. The comparison takes a few
    forward and backward passes; weights and buffers are restored.

    Args:
        g, d: the networks on their device.
        architecture: their shapes.
        generated: numbers of images that G generates at once; D scores the first number of them.
        scored: images that D scores at once in its own step.
        joint: one pass through D computes gradients with respect to its weights and its images.
        autocast: returns the context of the run's mixed precision.

    Raises:
        UserError: torch.compile does not work on this machine, or the gradients differ.
    """
    g.compile(dynamic=False)
    sample = _Sample(architecture, next(g.parameters()))
    with _restored(g), _compiler_errors():
        sample.fill_zeros(g)
        for count in generated:
            _compare("generator", g, lambda n: g(*sample.latents(n)), count, [], autocast)
    if any(parametrize.is_parametrized(module) for module in d.modules()):
        return
    d.trunk = torch.compile(d.trunk, dynamic=False)
    with _restored(d), _compiler_errors():
        sample.fill_zeros(d)
        images = sample.normal(scored, architecture.image_channels, *architecture.sides)
        images = images.contiguous(memory_format=torch.channels_last).requires_grad_(joint)
        inputs = [images] if joint else []
        _compare("discriminator", d, lambda n: d(images, *sample.latents(n)[1:]), scored, inputs, autocast)
        if joint:
            return
        x_hat = images[: generated[0]].clone(memory_format=torch.channels_last).requires_grad_()
        with frozen(d, None):  # as in G's step, which needs gradients with respect to the images
            _compare("discriminator", d, lambda n: d(x_hat, *sample.latents(n)[1:]), len(x_hat), [x_hat], autocast)
        d.train()


class _Sample:
    """Random inputs of the comparison. They have their own generator, so other random numbers do not depend on them."""

    def __init__(self, architecture: Architecture, like: Tensor) -> None:
        self.architecture, self.like = architecture, like
        self.generator = torch.Generator(like.device).manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, device=self.like.device, dtype=self.like.dtype)

    def latents(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return z (count, noise), labels (count, L) and known (count, A), the same at each call."""
        self.generator.manual_seed(1)
        widths = self.architecture.widths
        z, label = self.normal(count, self.architecture.noise), self.normal(count, sum(widths))
        return z, label, torch.ones(count, len(widths), device=z.device, dtype=z.dtype)

    @torch.no_grad()
    def fill_zeros(self, network: nn.Module) -> None:
        """Randomize zero-initialized weights, which would let no gradient through."""
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
    """Compare the gradients of a compiled forward with those of the same forward uncompiled.

    Args:
        inputs: tensors to differentiate with respect to, before the network's weights that are not frozen.

    Raises:
        UserError: the gradients differ.
    """
    weights = {name: weight for name, weight in network.named_parameters() if weight.requires_grad}
    targets = [*inputs, *weights.values()]
    labels = ["its images"] * len(inputs) + list(weights)

    def gradients(mixed: bool = True) -> tuple[Tensor, ...]:
        with autocast() if mixed else torch.autocast(targets[0].device.type, enabled=False):
            outputs = forward(count)
        direction = torch.linspace(-1, 1, outputs.numel(), device=outputs.device).view_as(outputs).to(outputs.dtype)
        return torch.autograd.grad(outputs, targets, direction)

    with disable_compile():
        expected = gradients()
    with torch.no_grad(), autocast():  # as D's step calls G: another compiled graph
        forward(count)
    found = gradients()
    wrong = _different(expected, found, labels, _tolerance(targets[0], autocast()))
    if wrong and autocast()._enabled:  # half precision may round some gradients by more than the tolerance
        with disable_compile():
            exact = gradients(mixed=False)
        wrong = _different(expected, found, labels, _tolerance(targets[0], autocast()), exact)
    if wrong:
        raise UserError(
            "compile-failed",
            f"--compile: torch {torch.__version__} computes wrong gradients of the {name} here ({', '.join(wrong[:3])}"
            f"{' …' if len(wrong) > 3 else ''} differ from the uncompiled ones); leave --compile out",
        )


def _different(
    expected: tuple[Tensor, ...],
    found: tuple[Tensor, ...],
    labels: list[str],
    tolerance: float,
    exact: tuple[Tensor, ...] | None = None,
) -> list[str]:
    """Return the names of gradients that differ from the expected ones by more than rounding.

    Args:
        tolerance: of each gradient, relative to its norm.
        exact: those of full precision. Two roundings of one gradient may differ by twice the distance of either.
    """
    norms = torch.stack([gradient.norm().double() for gradient in expected])
    errors = _distances(expected, found)
    bounds = tolerance * norms.clamp(min=_NEGLIGIBLE * float(norms.norm()))
    if exact is not None:
        bounds = bounds.maximum(2 * _distances(expected, exact))
    return [label for label, close in zip(labels, (errors <= bounds).tolist(), strict=True) if not close]


def _distances(some: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> Tensor:
    return torch.stack([(one - other).norm().double() for one, other in zip(some, others, strict=True)])


def _tolerance(weight: Tensor, autocast: torch.autocast) -> float:
    return _TOLERANCE[autocast.fast_dtype if autocast._enabled else weight.dtype]


@contextlib.contextmanager
def _restored(network: nn.Module) -> Iterator[None]:
    """Restore weights and buffers at the end."""
    saved = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    try:
        yield
    finally:
        network.load_state_dict(saved)


@contextlib.contextmanager
def _compiler_errors() -> Iterator[None]:
    """Turn errors of the compiler into a UserError."""
    from torch._dynamo.exc import TorchDynamoException

    try:
        yield
    except TorchDynamoException as error:
        first_line = str(error).strip().splitlines()[0]
        needs = "a GPU needs Triton" if torch.cuda.is_available() else "a CPU needs a C++ compiler (g++ or clang++)"
        raise UserError(
            "compile-failed",
            f"--compile: torch cannot compile here ({first_line}); {needs}; install it or leave --compile out",
        ) from None
