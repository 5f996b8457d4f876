"""Residual networks of plain 3x3 convolutions without normalization, for any size that `levels` accepts.

The layout of R3GAN (Huang et al. 2024, arXiv 2501.05441) with plain convolutions in place of grouped bottlenecks, which
are several times slower on a CPU: a learned basis at 4x4 (or 6x6), residual blocks whose second convolution starts at
zero (Fixup: Zhang et al. 2019, arXiv 1901.09321), 1x1 convolutions between sizes.
"""

import math
from functools import partial
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.architecture import Architecture
from trainer.networks.conditioning import Modulation
from trainer.networks.levelled import Level, LevelledDiscriminator, LevelledGenerator
from trainer.networks.resampling import Downsample, Upsample, double_size

_SLOPE = 0.2


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), the identity at initialization.

    Args:
        channels: input and output channels.
        depth: number of blocks in the network; the first convolution is scaled by its inverse square root.
        code: length of the w that modulates the result of the first convolution; 0: none does.
    """

    def __init__(self, channels: int, depth: int, code: int = 0) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.first.weight, 0.0, math.sqrt(2 / (depth * channels * 9)))
        nn.init.zeros_(self.second.weight)
        for convolution in (self.first, self.second):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)
        self.modulation = Modulation(code, channels) if code else None

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """Map (B, channels, s, s) to the same shape; w (B, code) in a generator."""
        h = self.first(F.leaky_relu(x, _SLOPE))
        if self.modulation is not None:
            h = self.modulation(h, w)
        return x + self.second(F.leaky_relu(h, _SLOPE))


class WidenAndDouble(nn.Conv2d):
    """A 1x1 convolution, then twice the size: by bilinear interpolation, or filtered."""

    def __init__(self, inputs: int, outputs: int, filtered: bool) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.resample = Upsample() if filtered else double_size

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, s, s) to (B, outputs, 2s, 2s)."""
        return self.resample(super().forward(input))


class HalveAndWiden(nn.Conv2d):
    """Half the size, by average pooling or filtered, then a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, filtered: bool) -> None:
        super().__init__(inputs, outputs, 1, bias=False)
        self.resample = Downsample() if filtered else partial(F.avg_pool2d, kernel_size=2)

    def forward(self, input: Tensor) -> Tensor:
        """Map (B, inputs, s, s) to (B, outputs, s/2, s/2)."""
        return super().forward(self.resample(input))


def _levels(channels: tuple[int, ...], blocks: int | None, code: int = 0) -> nn.ModuleList:
    """Build the blocks of each level; a level of one block has no list, so that older weights keep their names."""
    blocks = blocks or 1
    depth = blocks * len(channels)
    levels = [[ResidualBlock(c, depth, code) for _ in range(blocks)] for c in channels]
    return nn.ModuleList(level[0] if blocks == 1 else Level(*level) for level in levels)


class ResidualGenerator(LevelledGenerator):
    """Levels of residual blocks with doublings between them."""

    def __init__(self, a: Architecture) -> None:
        super().__init__(a)
        self.blocks = _levels(a.channels, a.blocks, a.code if a.modulation else 0)
        self.widen = nn.ModuleList(WidenAndDouble(i, o, a.resize == "filter") for i, o in pairwise(a.channels))
        self.to_picture = nn.Conv2d(a.channels[-1], a.image_channels, a.image_kernel, padding=a.image_kernel // 2)

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels and the transitions between them."""
        return self.blocks, self.widen


class ResidualDiscriminator(LevelledDiscriminator):
    """Levels of residual blocks with halvings between them."""

    def build_trunk(self, a: Architecture, channels: tuple[int, ...], in_channels: int) -> None:
        """Build the layers up to the features."""
        self.from_picture = nn.Conv2d(in_channels, channels[0], a.image_kernel, padding=a.image_kernel // 2)
        self.blocks = _levels(channels, a.blocks)
        self.widen = nn.ModuleList(HalveAndWiden(i, o, a.resize == "filter") for i, o in pairwise(channels))
        self.basis = nn.Parameter(torch.empty(channels[-1], *a.base))
        bound = math.prod(a.base) ** -0.5
        nn.init.uniform_(self.basis, -bound, bound)

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels and the transitions between them."""
        return self.blocks, self.widen
