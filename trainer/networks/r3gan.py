"""The networks of R3GAN (Huang et al. 2024, arXiv 2501.05441, section 4), for any size 3·2ⁿ or 4·2ⁿ.

No normalisation. A level is a few inverted bottlenecks of grouped convolutions that begin as the identity (fix-up:
Zhang et al. 2019, arXiv 1901.09321); levels are joined by a [1, 2, 1] filter, and a 1x1 convolution where the width
changes.
No convolution has a bias of its own: a bias belongs to the activation that follows.
"""

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.conditioning import LabelEmbedding
from trainer.networks.discriminator import Discriminator

_SLOPE = 0.2
_GAIN = math.sqrt(2 / (1 + _SLOPE**2))  # what keeps a signal as loud behind the activation as before it


def convolution(inputs: int, outputs: int, size: int = 1, groups: int = 1, gain: float = 1.0) -> nn.Conv2d:
    """A convolution without bias that keeps the size, drawn with deviation gain / √(inputs that an output sees)."""
    layer = nn.Conv2d(inputs, outputs, size, padding=size // 2, groups=groups, bias=False)
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(size * size * inputs / groups))
    return layer


class BiasedActivation(nn.Module):
    """LeakyReLU(x + b), a learned b a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, s, s) -> the same shape."""
        return F.leaky_relu(x + self.bias[:, None, None].to(x.dtype), _SLOPE, inplace=True)


class Bottleneck(nn.Module):
    """x + W₃ act(W₂ act(W₁ x)): widened by a 1x1, grouped 3x3, narrowed by a 1x1; the identity at the start.

    Args:
        channels: C, in and out.
        expansion: e; the grouped convolution works on C·e channels.
        group_width: channels of one of its groups.
        depth: V, how many blocks the network stacks. Of m = 3 linear layers a block, all but the last are scaled
            by V^(-1/(2m - 2)), so that the change of the network's output at a step does not grow with V.
    """

    def __init__(self, channels: int, expansion: int, group_width: int, depth: int) -> None:
        super().__init__()
        wide = channels * expansion
        gain = _GAIN * depth ** (-1 / (2 * 3 - 2))
        self.widen = convolution(channels, wide, gain=gain)
        self.first = BiasedActivation(wide)
        self.grouped = convolution(wide, wide, 3, wide // group_width, gain)
        self.second = BiasedActivation(wide)
        self.narrow = convolution(wide, channels, gain=0.0)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, s, s) -> the same shape."""
        h = self.first(self.widen(x))
        return x + self.narrow(self.second(self.grouped(h)))


class Filter(nn.Module):
    """The separable filter [1, 2, 1] / 4 of each channel, with zeros beyond the border; see its two children.

    Of its two directions, each the other's gradient, oneDNN has one in half precision only by a loop that takes twenty
    times as long: a CPU filters in float32.
    """

    kernel: Tensor

    def __init__(self) -> None:
        super().__init__()
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("kernel", (line[:, None] * line)[None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, s, s) -> (B, C, s/2, s/2) or (B, C, 2s, 2s), in the dtype of autocast where that is on."""
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype
        within = torch.float32 if device == "cpu" and dtype.itemsize < 4 else dtype
        kernel = self.kernel.expand(x.shape[1], 1, 3, 3).to(within)
        with torch.autocast(device, enabled=False):
            return self.resample(x.to(within), kernel).to(dtype)

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """The filter's way of changing the size; x and kernel (C, 1, 3, 3) are of one dtype."""
        raise NotImplementedError


class Downsample(Filter):
    """Filter, then every second row and column."""

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """(B, C, s, s) -> (B, C, s/2, s/2)."""
        return F.conv2d(x, kernel, stride=2, padding=1, groups=len(kernel))


class Upsample(Filter):
    """Zeros between rows and columns, then the filter four times as strong: the transpose of `Downsample`, times 4."""

    def resample(self, x: Tensor, kernel: Tensor) -> Tensor:
        """(B, C, s, s) -> (B, C, 2s, 2s)."""
        return F.conv_transpose2d(x, 4 * kernel, stride=2, padding=1, output_padding=1, groups=len(kernel))


def _change(inputs: int, outputs: int) -> nn.Module:
    return nn.Identity() if inputs == outputs else convolution(inputs, outputs)


def _levels(channels: tuple[int, ...], blocks: int, expansion: int, group_width: int) -> nn.ModuleList:
    depth = blocks * len(channels)
    return nn.ModuleList(
        nn.Sequential(*(Bottleneck(c, expansion, group_width, depth) for _ in range(blocks))) for c in channels
    )


class R3GANGenerator(nn.Module):
    """z, y -> picture: a learned basis weighed by (z, e(y)), then levels of bottlenecks and doublings between them.

    Args:
        size: picture side, base·2^(len(channels) - 1).
        noise: length of z.
        widths: entries of each label attribute.
        embedding: length of the label's embedding e(y).
        channels: of each level, from the base up to the full size.
        blocks: of each level.
        expansion, group_width: see `Bottleneck`.
        bounded: whether a tanh keeps the pictures in [-1, 1].
    """

    def __init__(
        self,
        size: int,
        noise: int,
        widths: tuple[int, ...],
        embedding: int,
        channels: tuple[int, ...],
        blocks: int,
        expansion: int,
        group_width: int,
        bounded: bool = False,
    ) -> None:
        super().__init__()
        self.bounded = bounded
        base = size >> (len(channels) - 1)
        self.embedding = LabelEmbedding(widths, embedding)
        self.linear = nn.Linear(noise + embedding, channels[0], bias=False)
        nn.init.normal_(self.linear.weight, 0.0, (noise + embedding) ** -0.5)
        self.basis = nn.Parameter(torch.randn(channels[0], base, base))
        self.levels = _levels(channels, blocks, expansion, group_width)
        self.transitions = nn.ModuleList(nn.Sequential(_change(a, b), Upsample()) for a, b in pairwise(channels))
        self.to_picture = convolution(channels[-1], 3)

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """z (B, noise), label (B, L), known (B, A) -> pictures (B, 3, size, size), about [-1, 1] or bounded by it."""
        weights = self.linear(torch.cat([z, self.embedding(label, known)], 1))  # (B, channels[0])
        x = self.levels[0](self.basis * weights[:, :, None, None])
        for transition, level in zip(self.transitions, self.levels[1:], strict=True):
            x = level(transition(x))
        x = self.to_picture(x)
        return x.tanh() if self.bounded else x


class R3GANDiscriminator(Discriminator):
    """picture, y -> logit: the generator's mirror image, then a basis that weighs each channel's cells, and a head.

    Args:
        size: picture side, base·2^(len(channels) - 1).
        widths: entries of each label attribute.
        channels: of each level, from the full size down to the base.
        conditioning: how the label enters; see `trainer.networks.conditioning`.
        blocks: of each level.
        expansion, group_width: see `Bottleneck`.
    """

    def __init__(
        self,
        size: int,
        widths: tuple[int, ...],
        channels: tuple[int, ...],
        conditioning: str,
        blocks: int,
        expansion: int,
        group_width: int,
    ) -> None:
        super().__init__()
        base = size >> (len(channels) - 1)
        self.from_picture = convolution(4 if conditioning == "plane" else 3, channels[0])
        self.levels = _levels(channels, blocks, expansion, group_width)
        self.transitions = nn.ModuleList(nn.Sequential(Downsample(), _change(a, b)) for a, b in pairwise(channels))
        self.basis = nn.Parameter(torch.randn(channels[-1], base, base) / base)  # a depthwise kernel that covers all
        self.condition(conditioning, widths, size, channels[-1])

    def trunk(self, x: Tensor) -> Tensor:
        """x (N, 3 or 4, size, size) -> h (N, channels[-1])."""
        x = self.levels[0](self.from_picture(x))
        for transition, level in zip(self.transitions, self.levels[1:], strict=True):
            x = level(transition(x))
        return (x * self.basis).sum((2, 3))
