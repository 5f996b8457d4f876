"""The Inception-v3 of the Fréchet Inception distance, up to its features.

Szegedy et al. 2016 (arXiv 1512.00567), in the variant of TensorFlow's graph of 2015-12-05 that Heusel et al. 2017
(arXiv 1706.08500) used: average pooling excludes the padding, and the last block uses max pooling where the paper uses
average pooling. Modules have the names of the published PyTorch conversions, so that their weights load.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 2048

Steps = Sequence[tuple[int, int, int]]  # (channels, height, width) of each convolution of a branch
_FORK = (384, 0, 0)  # a 1x3 and a 3x1 convolution of the same input, in parallel


class InceptionV3(nn.Module):
    """A network from images to features."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, (3, 3), stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, (3, 3))
        self.Conv2d_2b_3x3 = Convolution(32, 64, (3, 3), padded=True)
        self.Conv2d_3b_1x1 = Convolution(64, 80, (1, 1))
        self.Conv2d_4a_3x3 = Convolution(80, 192, (3, 3))
        self.Mixed_5b = Mixed(192, _squares(), _average, 32)
        self.Mixed_5c = Mixed(256, _squares(), _average, 64)
        self.Mixed_5d = Mixed(288, _squares(), _average, 64)
        self.Mixed_6a = Mixed(288, {"branch3x3": [(384, 3, 3)], "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)]})
        self.Mixed_6b = Mixed(768, _crosses(128), _average, 192)
        self.Mixed_6c = Mixed(768, _crosses(160), _average, 192)
        self.Mixed_6d = Mixed(768, _crosses(160), _average, 192)
        self.Mixed_6e = Mixed(768, _crosses(192), _average, 192)
        self.Mixed_7a = Mixed(
            768,
            {
                "branch3x3": [(192, 1, 1), (320, 3, 3)],
                "branch7x7x3": [(192, 1, 1), (192, 1, 7), (192, 7, 1), (192, 3, 3)],
            },
        )
        self.Mixed_7b = Mixed(1280, _forks(), _average, 192)
        self.Mixed_7c = Mixed(2048, _forks(), _maximum, 192)

    def features(self, x: Tensor) -> Tensor:
        """Return features (b, 2048), means over the last feature map, of images (b, 3, 299, 299) in [0, 255]."""
        h = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3((x - 128) / 128)))
        h = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(F.max_pool2d(h, 3, 2)))
        h = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(F.max_pool2d(h, 3, 2))))
        h = self.Mixed_6e(self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(h)))))
        return self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(h))).mean((2, 3))


class Convolution(nn.Module):
    """A convolution, batch normalisation and ReLU."""

    NORMS: ClassVar = {"conv": "bn"}  # which normalisation follows which convolution

    def __init__(self, channels: int, out: int, kernel: tuple[int, int], stride: int = 1, padded: bool = False) -> None:
        super().__init__()
        padding = (kernel[0] // 2, kernel[1] // 2) if padded else 0
        self.conv = nn.Conv2d(channels, out, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, h, w) to (b, out, h', w')."""
        return F.relu(self.bn(self.conv(x)))


class Mixed(nn.Module):
    """Parallel branches, each a chain of convolutions, and one with pooling.

    Args:
        channels: of the input.
        branches: name and steps of each branch.
        pool: pooling of the last branch before its 1x1 convolution to ``pooled`` channels. If None, the block halves
            height and width: the last step of each branch and a max pooling have stride 2.
        pooled: output channels of the pooling branch.
    """

    def __init__(
        self,
        channels: int,
        branches: Mapping[str, Steps],
        pool: Callable[[Tensor], Tensor] | None = None,
        pooled: int = 0,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.chains = [self._chain(channels, name, steps) for name, steps in branches.items()]
        if pool:
            self.branch_pool = Convolution(channels, pooled, (1, 1))

    def _chain(self, channels: int, name: str, steps: Steps) -> list[list[str]]:
        """Add the convolutions of a branch; return their names, those of a fork together."""
        chain = []
        for number, step in enumerate(steps, 1):
            out, *kernel = step
            halves = self.pool is None and number == len(steps)
            kernels = {"a": (1, 3), "b": (3, 1)} if step == _FORK else {"": (kernel[0], kernel[1])}
            names = []
            for letter, (height, width) in kernels.items():
                names.append(f"{name}_{number}{letter}" if len(steps) > 1 else name)
                convolution = Convolution(channels, out, (height, width), 2 if halves else 1, padded=not halves)
                self.add_module(names[-1], convolution)
            chain.append(names)
            channels = out
        return chain

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, s, s) to (b, channels of all branches, s', s')."""
        ends = []
        for chain in self.chains:
            h = x
            for names in chain:
                parts = [self.get_submodule(name)(h) for name in names]
                h = torch.cat(parts, 1) if len(parts) > 1 else parts[0]
            ends.append(h)
        pooled = self.branch_pool(self.pool(x)) if self.pool else F.max_pool2d(x, 3, 2)
        return torch.cat([*ends, pooled], 1)


def _squares() -> dict[str, Steps]:
    return {
        "branch1x1": [(64, 1, 1)],
        "branch5x5": [(48, 1, 1), (64, 5, 5)],
        "branch3x3dbl": [(64, 1, 1), (96, 3, 3), (96, 3, 3)],
    }


def _crosses(narrow: int) -> dict[str, Steps]:
    return {
        "branch1x1": [(192, 1, 1)],
        "branch7x7": [(narrow, 1, 1), (narrow, 1, 7), (192, 7, 1)],
        "branch7x7dbl": [(narrow, 1, 1), (narrow, 7, 1), (narrow, 1, 7), (narrow, 7, 1), (192, 1, 7)],
    }


def _forks() -> dict[str, Steps]:
    return {
        "branch1x1": [(320, 1, 1)],
        "branch3x3": [(384, 1, 1), _FORK],
        "branch3x3dbl": [(448, 1, 1), (384, 3, 3), _FORK],
    }


def _average(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1, count_include_pad=False)


def _maximum(x: Tensor) -> Tensor:
    return F.max_pool2d(x, 3, 1, 1)
