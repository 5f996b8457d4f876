"""The PyPI package lightweight-gan 1.2.1 on a CPU: its own `Trainer.train`, with the defaults of its command.

The package insists on a GPU. Three adapters, which hold in this process alone, let its code run without one:

- torchvision and kornia.filters, of which training calls nothing where images already have the right size, are empty
  modules, so that neither has to be installed beside a CPU build of torch;
- its module sees a torch whose every device is the CPU, and that says yes when asked for CUDA at import;
- ``tensor.cuda()`` returns the tensor.

Its labels are none: images are drawn from noise alone.
"""

from __future__ import annotations

import contextlib
import importlib
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from other_methods.method import named, of
from shards.core.errors import Failure, UserError
from trainer.run.state_dicts import load_module, load_optimizer, module_tensors, optimizer_tensors

VERSION = "1.2.1"
INSTALL = f"pip install --no-deps lightweight-gan=={VERSION} adabelief-pytorch==0.2.1 einops==0.8.2 colorama tabulate"
_STAND_INS = ("torchvision", "torchvision.transforms", "kornia", "kornia.filters")
_BATCH, _ACCUMULATE = 10, 4
_AVERAGED_FROM = 20_000  # steps; before, its average is a copy of G that is up to 1,000 steps old


class LightweightGan:
    """A lightweight GAN in training; see `other_methods.method.Method`.

    Args:
        size: side of the images, a power of two.
        images: number of training images, by which the package sets the probability of augmentation.

    Raises:
        UserError: the package is missing.
    """

    batch = _BATCH * _ACCUMULATE
    noise_size = 256

    def __init__(self, size: int, images: int) -> None:
        package = _import_package()

        class Adapted(package.Trainer):
            """A trainer that leaves saving and evaluating to the benchmark."""

            def save(self, num: int) -> None:
                """Save nothing."""

            def load(self, num: int = -1, print_version: bool = True) -> None:
                """Raise Failure: there is nothing to load after NaN."""
                raise Failure("non-finite", f"a loss of lightweight-gan is not finite at step {self.steps:,}")

            def evaluate(self, num: int = 0, num_image_tiles: int = 4) -> None:
                """Draw nothing."""

        with tempfile.TemporaryDirectory() as folder, _without_gpu():
            self.trainer: Any = Adapted(
                base_dir=folder,
                image_size=size,
                batch_size=_BATCH,
                gradient_accumulate_every=_ACCUMULATE,
                attn_res_layers=[32],
                disc_output_size=1,
                lr=2e-4,
                aug_prob=min(0.5, max(0.0, (1e5 - images) * 3e-6)),  # its rule
                aug_types=["cutout", "translation"],
                use_aim=False,
            )
            self.trainer.init_GAN()

    def step(self, images: Tensor, label: Tensor, known: Tensor, seen: int) -> Mapping[str, float]:
        """Train one step, by its own code."""
        self.trainer.loader = iter((images.float() / 255).split(_BATCH))
        random.seed(torch.initial_seed() + seen)  # decides by batch whether to augment
        with _without_gpu():
            self.trainer.train()
        return {"loss/d": self.trainer.d_loss, "loss/g": self.trainer.g_loss}

    def generator(self) -> nn.Module:
        """Return G, or its average once the package computes one, in eval mode as the package generates."""
        gan = self.trainer.GAN
        return _Unconditional(gan.GE if self.trainer.steps > _AVERAGED_FROM else gan.G).eval()

    def tensors(self) -> dict[str, Tensor]:
        """Return G, its average, D and the moments of their optimizers, which the package itself does not save."""
        gan, found = self.trainer.GAN, {}
        for name in ("G", "GE", "D"):
            found |= named(name, module_tensors(getattr(gan, name)))
        for name in ("G", "D"):
            found |= named(f"{name}_opt", optimizer_tensors(getattr(gan, name), getattr(gan, f"{name}_opt")))
        return {name: tensor.contiguous() for name, tensor in found.items()}

    def load(self, tensors: Mapping[str, Tensor], seen: int) -> None:
        """Restore them."""
        gan, self.trainer.steps = self.trainer.GAN, seen // self.batch
        for name in ("G", "GE", "D"):
            load_module(getattr(gan, name), of(name, tensors))
        for name in ("G", "D"):
            load_optimizer(getattr(gan, name), getattr(gan, f"{name}_opt"), of(f"{name}_opt", tensors))


class _Unconditional(nn.Module):
    """A generator of the package, of images in [0, 1], called as the trainer's are.

    Args:
        network: maps z (B, 256) to (B, 3, S, S).
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map z (B, 256) to (B, 3, S, S) in [-1, 1]; label and known are ignored."""
        return self.network(z).clamp(0, 1) * 2 - 1


class _TorchOnCpu(ModuleType):
    """torch, where every device is the CPU."""

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    @staticmethod
    def device(*_: object) -> torch.device:
        """Return the CPU."""
        return torch.device("cpu")


@contextlib.contextmanager
def _without_gpu() -> Iterator[None]:
    with mock.patch.object(Tensor, "cuda", lambda tensor, *_, **__: tensor):
        yield


def require_package() -> None:
    """Raise UserError if the package is missing, or one that it needs."""
    _import_package()


def _import_package() -> Any:
    """Return the module of the package's networks and trainer, adapted.

    Raises:
        UserError: the package is missing, or one that it needs.
    """
    stand_ins = {name: ModuleType(name) for name in _STAND_INS}
    stand_ins["torchvision"].transforms = stand_ins["torchvision.transforms"]  # type: ignore[attr-defined]
    stand_ins["kornia.filters"].filter2d = None  # type: ignore[attr-defined] - blurs only with its option --antialias
    before = {name: sys.modules.get(name) for name in stand_ins}
    sys.modules.update(stand_ins)
    try:
        with mock.patch.object(torch.cuda, "is_available", return_value=True):
            package = importlib.import_module("lightweight_gan.lightweight_gan")
    except ImportError as error:
        raise UserError("package-missing", f"the leg lightweight-gan needs {error.name}; install: {INSTALL}") from None
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
    vars(package)["torch"] = _TorchOnCpu("torch")
    return package
