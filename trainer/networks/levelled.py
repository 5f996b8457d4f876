"""The base of the families r3gan and residual: levels of residual blocks that double, or halve, the image's size.

A level works at one size, from a base such as 4x4, 6x6 or 4x3 up to the full size; a transition joins two levels. A
family says which layers it uses, and under which names their weights are saved. A block of a generator is called with
w = [z, e(y)] too, for its `Modulation` if it has one.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.architecture import Architecture
from trainer.networks.conditioning import Conditioning, LabelEmbedding
from trainer.networks.discriminator import Discriminator


class Level(nn.Sequential):
    """Several blocks, called one after the other."""

    def forward(self, input: Tensor, w: Tensor | None = None) -> Tensor:
        """Map (B, C, h, w) to the same shape; w (B, code) in a generator."""
        for block in self:
            input = block(input, w)
        return input


class LevelledGenerator(nn.Module):
    """Map z, y to an image: a learned basis weighted by (z, e(y)), then levels with a transition between two of them.

    A subclass builds its levels, transitions and ``to_picture`` after this constructor.

    Args:
        a: an architecture with resolved channels and blocks (see `resolve_levels`).
    """

    to_picture: nn.Conv2d

    def __init__(self, a: Architecture) -> None:
        super().__init__()
        self.bounded = a.spectral_norm
        self.embedding = LabelEmbedding(a.widths, a.embedding)
        self.linear = self.build_linear(a.code, a.channels[0])
        self.basis = nn.Parameter(torch.randn(a.channels[0], *a.base))

    def build_linear(self, inputs: int, outputs: int) -> nn.Linear:
        """Build the layer that weights the channels of the basis."""
        return nn.Linear(inputs, outputs, bias=False)

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels, from the base to the full size, and the transitions between them."""
        raise NotImplementedError

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map z (B, noise), label (B, L) and known (B, A) to images (B, C, H, W), about or (if bounded) in [-1, 1]."""
        levels, transitions = self.stages()
        w = torch.cat([z, self.embedding(label, known)], 1)
        weights = self.linear(w)  # (B, channels[0])
        x = levels[0](self.basis * weights[:, :, None, None], w)
        for transition, level in zip(transitions, levels[1:], strict=True):
            x = level(transition(x), w)
        x = self.to_picture(x)
        return x.tanh() if self.bounded else x


class LevelMean(nn.Module):
    """The mean over the image of act(W x + b): how much of each of C patterns there is, wherever it is.

    Args:
        channels: C of a level.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.detect = nn.Conv2d(channels, channels, 1)
        nn.init.normal_(self.detect.weight, 0.0, (2 / channels) ** 0.5)
        nn.init.zeros_(self.detect.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        """Map (N, C, h, w) to (N, C)."""
        return F.leaky_relu(self.detect(x), 0.2, inplace=True).mean((2, 3))


class LevelledDiscriminator(Discriminator):
    """Map an image and y to a logit: the generator's mirror image, then a depthwise basis over all cells, and a head.

    With `Architecture.level_means` the head sees a `LevelMean` of each level but the lowest too. A fine pattern would
    otherwise have to pass all transitions, whose filter removes it.

    Args:
        a: an architecture with resolved channels and blocks.
        conditioning: how the label is used.
    """

    basis: nn.Parameter
    from_picture: nn.Conv2d

    def __init__(self, a: Architecture, conditioning: Conditioning) -> None:
        super().__init__()
        channels = a.channels[::-1]
        self.build_trunk(a, channels, a.image_channels + conditioning.planes)
        self.means = nn.ModuleList(LevelMean(c) for c in channels[:-1]) if a.level_means else None
        self.condition(conditioning, a.widths, a.sides, sum(channels) if a.level_means else channels[-1])

    def build_trunk(self, a: Architecture, channels: tuple[int, ...], in_channels: int) -> None:
        """Build ``from_picture``, the levels, the transitions and ``basis`` (channels[-1], *base).

        Args:
            a: the architecture.
            channels: per level, from the full size to the base.
            in_channels: channels of the input.
        """
        raise NotImplementedError

    def stages(self) -> tuple[nn.ModuleList, nn.ModuleList]:
        """Return the levels, from the full size to the base, and the transitions between them."""
        raise NotImplementedError

    def trunk_levels(self) -> list[list[nn.Module]]:
        """Return the levels, each with the transition to the next one; the first reads the image."""
        levels, transitions = self.stages()
        found = [[level, *transitions[number : number + 1]] for number, level in enumerate(levels)]
        return [[self.from_picture, *found[0]], *found[1:]]

    def trunk(self, x: Tensor) -> Tensor:
        """Map x (N, in_channels, H, W) to features (N, channels[-1]), or (N, sum(channels)) with means of levels."""
        levels, transitions = self.stages()
        x = levels[0](self.from_picture(x))
        found = []
        for number, transition in enumerate(transitions):
            if self.means is not None:
                found.append(self.means[number](x))
            x = levels[number + 1](transition(x))
        lowest = (x * self.basis).sum((2, 3))
        return torch.cat([lowest, *found], 1) if found else lowest
