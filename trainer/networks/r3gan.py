"""The networks of R3GAN (Huang et al. 2024, arXiv 2501.05441, section 4), for any size that `levels` accepts.

There is no normalization. A level is a few inverted bottlenecks of grouped convolutions that start as the identity
(Fixup: Zhang et al. 2019, arXiv 1901.09321); levels are joined by a [1, 2, 1] filter, and a 1x1 convolution where the
number of channels changes. A bias belongs to the activation that follows a convolution.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.architecture import Architecture
from trainer.networks.conditioning import Modulation
from trainer.networks.levelled import Level, LevelledDiscriminator, LevelledGenerator
from trainer.networks.resampling import Downsample, Upsample

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # keeps the variance of a signal through the activation


def convolution(inputs: int, outputs: int, size: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """Return a convolution without bias that keeps the size; its weights have standard deviation gain / √fan_in."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(size * size * inputs / groups))
    return layer


class BiasedActivation(nn.Module):
    """LeakyReLU(W x + b), with a learned b per channel and the weights W of another layer."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(
        self, x: Tensor, layer: nn.Conv2d, modulation: Modulation | None = None, w: Tensor | None = None
    ) -> Tensor:
        """Map (B, layer.in_channels, s, s) to (B, channels, s, s); w (B, code) modulates what is activated.

        The convolution adds b to its sums: alone, that would be one more pass through memory, and one more rounding.
        """
        x = F.conv2d(x, layer.weight, self.bias, padding=layer.padding, groups=layer.groups)
        if modulation is not None:
            x = modulation(x, w)
        return F.leaky_relu(x, _SLOPE, inplace=True)


class Bottleneck(nn.Module):
    """x + W₃ act(W₂ act(W₁ x)): a 1x1 widens, a grouped 3x3, a 1x1 narrows; the identity at initialization.

    Args:
        channels: C, input and output channels.
        expansion: e; the grouped convolution works on C·e channels.
        group_width: channels per group.
        depth: V, number of blocks in the network. Of the m = 3 linear layers of a block, all but the last are scaled
            by V^(-1/(2m - 2)), so that the change of the network's output in one step does not grow with V.
        code: length of the w that modulates the result of the grouped convolution; 0: none does.
    """

    def __init__(self, channels: int, expansion: int, group_width: int, depth: int, code: int = 0) -> None:
        super().__init__()
        wide = channels * expansion
        gain = _GAIN * depth ** (-1 / (2 * 3 - 2))
        self.widen = convolution(channels, wide, gain=gain)
        self.first = BiasedActivation(wide)
        self.grouped = convolution(wide, wide, 3, wide // group_width, gain)
        self.second = BiasedActivation(wide)
        self.narrow = convolution(wide, channels, gain=0.0)
        self.modulation = Modulation(code, wide) if code else None

    def forward(self, x: Tensor, w: Tensor | None = None) -> Tensor:
        """Map (B, C, s, s) to the same shape; w (B, code) in a generator."""
        h = self.first(x, self.widen)
        return x + self.narrow(self.second(h, self.grouped, self.modulation, w))


def _change_channels(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else convolution(inputs, outputs)


def _levels(a: Architecture, channels: tuple[int, ...], code: int = 0) -> nn.ModuleList:
    """Build the bottlenecks of each level.

    Raises:
        ValueError: the groups do not divide the channels.
    """
    for c in channels:
        if c * a.expansion % a.group_width:
            raise ValueError(
                f"groups of {a.group_width} do not divide the {c * a.expansion} channels ({c} times {a.expansion}) "
                f"of a grouped convolution; choose another --group-width, or --channels that it divides"
            )
    blocks = a.blocks or 1
    depth = blocks * len(channels)
    return nn.ModuleList(
        Level(*(Bottleneck(c, a.expansion, a.group_width, depth, code) for _ in range(blocks))) for c in channels
    )


class R3GANGenerator(LevelledGenerator):
    """Levels of bottlenecks with filtered doublings between them."""

    def __init__(self, a: Architecture) -> None:
        super().__init__(a)
        self.levels = _levels(a, a.channels, a.code if a.modulation else 0)
        self.transitions = nn.ModuleList(
            nn.Sequential(_change_channels(i, o), Upsample()) for i, o in pairwise(a.channels)
        )
        self.to_picture = convolution(a.channels[-1], a.image_channels, a.image_kernel)

    def build_linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Build the layer that weights the channels of the basis, with a gain of 1."""
        linear = super().build_linear(inputs, outputs)
        nn.init.normal_(linear.weight, 0.0, inputs**-0.5)
        return linear

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels and the transitions between them."""
        return self.levels, self.transitions


class R3GANDiscriminator(LevelledDiscriminator):
    """Levels of bottlenecks with filtered halvings between them."""

    def build_trunk(self, a: Architecture, channels: tuple[int, ...], in_channels: int) -> None:
        """Build the layers up to the features."""
        self.from_picture = convolution(in_channels, channels[0], a.image_kernel)
        self.levels = _levels(a, channels)
        self.transitions = nn.ModuleList(
            nn.Sequential(Downsample(), _change_channels(i, o)) for i, o in pairwise(channels)
        )
        self.basis = nn.Parameter(torch.randn(channels[-1], *a.base) / math.prod(a.base) ** 0.5)

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels and the transitions between them."""
        return self.levels, self.transitions
