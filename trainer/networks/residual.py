"""Residual networks of plain 3x3 convolutions without normalisation, for any size 3·2ⁿ or 4·2ⁿ.

The layout of R3GAN (Huang et al. 2024, arXiv 2501.05441) with plain convolutions in place of grouped
bottlenecks, which are several times slower on a CPU: a learned basis at 4x4 (or 6x6), residual blocks whose second
convolution starts at zero (fix-up: Zhang et al. 2019, arXiv 1901.09321), 1x1 convolutions between sizes.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.conditioning import LabelEmbedding
from trainer.networks.discriminator import Discriminator

_SLOPE = 0.2


def doubled(x: Tensor) -> Tensor:
    """Twice the size by bilinear interpolation, (B, C, s, s) -> (B, C, 2s, 2s).

    Compiled, it is written out: a new row lies a quarter of the way from an old one to a neighbour, and so do columns.
    The interpolation's own backward scatters, and torch 2.13 compiles what follows a scatter into wrong gradients.
    """
    if not torch.compiler.is_dynamo_compiling():
        return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
    for side in (2, 3):
        rows = x.shape[side]
        first, last = x.narrow(side, 0, 1), x.narrow(side, rows - 1, 1)
        before = torch.cat([first, x.narrow(side, 0, rows - 1)], side)
        after = torch.cat([x.narrow(side, 1, rows - 1), last], side)
        pair = [torch.lerp(x, before, 0.25), torch.lerp(x, after, 0.25)]
        x = torch.stack(pair, side + 1).flatten(side, side + 1)
    return x


class ResidualBlock(nn.Module):
    """x + conv(act(conv(act(x)))), the identity at the start.

    Args:
        channels: in and out.
        depth: how many blocks the network stacks; the first convolution is scaled down by its root.
    """

    def __init__(self, channels: int, depth: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.normal_(self.first.weight, 0.0, math.sqrt(2 / (depth * channels * 9)))
        nn.init.zeros_(self.second.weight)
        for convolution in (self.first, self.second):
            assert convolution.bias is not None
            nn.init.zeros_(convolution.bias)

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, s, s) -> the same shape."""
        h = self.first(F.leaky_relu(x, _SLOPE))
        return x + self.second(F.leaky_relu(h, _SLOPE))


def _levels(channels: tuple[int, ...], blocks: int) -> nn.ModuleList:
    """The blocks of each level; one a level stands without a list, so that older weights keep their names."""
    depth = blocks * len(channels)
    levels = [[ResidualBlock(c, depth) for _ in range(blocks)] for c in channels]
    return nn.ModuleList(level[0] if blocks == 1 else nn.Sequential(*level) for level in levels)


class ResidualGenerator(nn.Module):
    """z, y -> picture: a learned basis weighed by (z, e(y)), then blocks and bilinear doublings.

    Args:
        size: picture side, base·2^(len(channels) - 1).
        noise: length of z.
        widths: entries of each label attribute.
        embedding: length of the label's embedding e(y).
        channels: of each level, from the base up to the full size.
        blocks: of each level.
        bounded: whether a tanh keeps the pictures in [-1, 1].
    """

    def __init__(
        self,
        size: int,
        noise: int,
        widths: tuple[int, ...],
        embedding: int,
        channels: tuple[int, ...],
        blocks: int = 1,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.bounded = bounded
        base = size >> (len(channels) - 1)
        self.embedding = LabelEmbedding(widths, embedding)
        self.linear = nn.Linear(noise + embedding, channels[0], bias=False)
        self.basis = nn.Parameter(torch.randn(channels[0], base, base))
        self.blocks = _levels(channels, blocks)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(channels))
        self.to_picture = nn.Conv2d(channels[-1], 3, 1)

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """z (B, noise), label (B, L), known (B, A) -> pictures (B, 3, size, size), about [-1, 1] or bounded by it."""
        weights = self.linear(torch.cat([z, self.embedding(label, known)], 1))  # (B, channels[0])
        x = self.blocks[0](self.basis * weights[:, :, None, None])
        for widen, block in zip(self.widen, self.blocks[1:], strict=True):
            x = block(doubled(widen(x)))
        x = self.to_picture(x)
        return x.tanh() if self.bounded else x


class ResidualDiscriminator(Discriminator):
    """picture, y -> logit: blocks and average poolings down to the base, a basis layer, a head.

    Args:
        size: picture side, base·2^(len(channels) - 1).
        widths: entries of each label attribute.
        channels: of each level, from the full size down to the base.
        conditioning: how the label enters; see `trainer.networks.conditioning`.
        blocks: of each level.
    """

    def __init__(
        self,
        size: int,
        widths: tuple[int, ...],
        channels: tuple[int, ...],
        conditioning: str = "projection",
        blocks: int = 1,
    ) -> None:
        super().__init__()
        base = size >> (len(channels) - 1)
        last = channels[-1]
        self.from_picture = nn.Conv2d(4 if conditioning == "plane" else 3, channels[0], 1)
        self.blocks = _levels(channels, blocks)
        self.widen = nn.ModuleList(nn.Conv2d(a, b, 1, bias=False) for a, b in pairwise(channels))
        self.basis = nn.Parameter(torch.empty(last, base, base))  # one weight a channel and cell: channels do not mix
        nn.init.uniform_(self.basis, -1 / base, 1 / base)
        self.condition(conditioning, widths, size, last)

    def trunk(self, x: Tensor) -> Tensor:
        """x (N, 3 or 4, size, size) -> h (N, channels[-1])."""
        x = self.blocks[0](self.from_picture(x))
        for widen, block in zip(self.widen, self.blocks[1:], strict=True):
            x = block(widen(F.avg_pool2d(x, 2)))
        return (x * self.basis).sum((2, 3))
