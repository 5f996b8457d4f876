"""EfficientNet-Lite0, 1 and 2: networks of plain convolutions for small machines.

Tan & Le 2019 (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6 ("Lite", Google 2020). A larger network
has more channels and blocks, except in its stem, its head, and the number of blocks of its first and last stage.
Modules have the names of the published PyTorch conversions, so that their weights load.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

FEATURES = 1280

SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))  # of channels and of blocks, by number of the network

# (blocks, kernel, stride of the first, expansion, channels) of each stage of Lite0.
_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM = 32
_EPSILON = 1e-3  # of the batch normalisations


class EfficientNetLite(nn.Module):
    """A network from images to features, and to logits of ImageNet's 1,000 classes.

    Args:
        number: 0, 1 or 2, as in EfficientNet-Lite0.
    """

    NORMS: ClassVar = {"_conv_stem": "_bn0", "_conv_head": "_bn1"}  # which normalisation follows which convolution

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        width, depth = SCALES[number]
        self._conv_stem, self._bn0 = SameConv2d(3, _STEM, 3, stride=2), _norm(_STEM)
        blocks, channels = [], _STEM
        for count, kernel, stride, expansion, out in _STAGES:
            out = _round_channels(width * out)
            for i in range(math.ceil(depth * count) if count > 1 else count):
                blocks.append(InvertedResidual(channels, out, kernel, stride if i == 0 else 1, expansion))
                channels = out
        self._blocks = nn.Sequential(*blocks)
        self._conv_head, self._bn1 = SameConv2d(channels, FEATURES, 1), _norm(FEATURES)
        self._fc = nn.Linear(FEATURES, 1000)

    def features(self, x: Tensor) -> Tensor:
        """Return features (b, 1280), means over the last feature map.

        Args:
            x: RGB images (b, 3, H, W) in [0, 255]; H and W at least 32.
        """
        h = F.relu6(self._bn0(self._conv_stem((x - 127) / 128)))
        h = F.relu6(self._bn1(self._conv_head(self._blocks(h))))
        return h.mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits (b, 1000) of ImageNet's classes."""
        return self._fc(self.features(x))


class InvertedResidual(nn.Module):
    """An inverted residual block (MobileNetV2): expansion, depthwise convolution, projection."""

    NORMS: ClassVar = {"_expand_conv": "_bn0", "_depthwise_conv": "_bn1", "_project_conv": "_bn2"}

    def __init__(self, channels: int, out: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expands, self.adds = expansion > 1, stride == 1 and channels == out
        if self.expands:
            self._expand_conv, self._bn0 = SameConv2d(channels, wide, 1), _norm(wide)
        self._depthwise_conv, self._bn1 = SameConv2d(wide, wide, kernel, stride, groups=wide), _norm(wide)
        self._project_conv, self._bn2 = SameConv2d(wide, out, 1), _norm(out)

    def forward(self, x: Tensor) -> Tensor:
        """Map (b, channels, s, s) to (b, out, ⌈s / stride⌉, ⌈s / stride⌉)."""
        h = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        h = F.relu6(self._bn1(self._depthwise_conv(h)))
        h = self._bn2(self._project_conv(h))
        return x + h if self.adds else h


class SameConv2d(nn.Conv2d):
    """A convolution with TensorFlow's "SAME" padding: the larger part of an odd padding is at the end."""

    def __init__(self, channels: int, out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__(channels, out, kernel, stride, groups=groups, bias=False)

    def forward(self, input: Tensor) -> Tensor:
        """Map (b, channels, h, w) to (b, out, ⌈h / stride⌉, ⌈w / stride⌉)."""
        (top, bottom), (left, right) = (self._margins(side) for side in input.shape[2:])
        if (top, left) == (bottom, right):
            return F.conv2d(input, self.weight, self.bias, self.stride, (top, left), groups=self.groups)
        return super().forward(F.pad(input, (left, right, top, bottom)))

    def _margins(self, side: int) -> tuple[int, int]:
        kernel, stride = self.kernel_size[0], self.stride[0]
        total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
        return total // 2, total - total // 2


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_EPSILON)


def _round_channels(channels: float) -> int:
    """Return the multiple of 8 nearest to a number of channels, but not one that is smaller by more than a tenth."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
