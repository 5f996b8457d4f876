"""The networks of the article, layer by layer: the reproduction baseline, for 96x96 images only.

One thing differs: the discriminator ends in a logit, where the article has a sigmoid whose logarithm the loss takes.
The logit form is the same function, and stays finite in half precision.
"""

import math

import torch
from torch import Tensor, nn

from trainer.networks.conditioning import Conditioning, LabelMask
from trainer.networks.discriminator import Discriminator
from trainer.networks.label_axes import LabelAxis

SIZE = 96
_BASE = 192  # the generator works at twice the image's size and halves it at the end


class ArticleGenerator(nn.Module):
    """Map z, y to an image: one wide linear layer to 15 planes of 192x192, then three convolutions.

    Args:
        noise: length of z.
        widths: entries of each label attribute.
    """

    def __init__(self, noise: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.mask = LabelMask(widths)
        self.linear = nn.Linear(noise + sum(widths), 15 * _BASE * _BASE)
        self.label_axes = {"linear.weight": LabelAxis(1, offset=noise, added=True)}
        self.layers = nn.Sequential(
            nn.BatchNorm2d(15),
            nn.ReLU(inplace=True),
            nn.Conv2d(15, 50, 3, padding=1),
            nn.BatchNorm2d(50),
            nn.ReLU(inplace=True),
            nn.Conv2d(50, 25, 3, padding=1),
            nn.BatchNorm2d(25),
            nn.ReLU(inplace=True),
            nn.Conv2d(25, 3, 2, stride=2),
            nn.Tanh(),
        )

    def forward(self, z: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map z (B, noise), label (B, L) and known (B, A) to images (B, 3, 96, 96) in [-1, 1]."""
        x = self.linear(torch.cat([z, self.mask(label, known)], 1)).view(-1, 15, _BASE, _BASE)
        x = self.layers[:2](x)  # contiguous planes: channels last is seven times slower on a CPU
        return self.layers[2:](x.contiguous(memory_format=_format_of(self.layers[2])))


# As published: the label, without null vectors, is a fourth channel of the image; the trunk's last layer is the head.
PUBLISHED = Conditioning(
    head=lambda widths, channels: nn.Linear(channels, 1),
    early=lambda widths, sides: nn.Linear(sum(widths), math.prod(sides)),
    planes=1,
)


class ArticleDiscriminator(Discriminator):
    """Map an image and y to a logit.

    Args:
        widths: entries of each label attribute.
        conditioning: `PUBLISHED`, or another one in its place, which scores the 1024 features of the trunk.
    """

    def __init__(self, widths: tuple[int, ...], conditioning: Conditioning = PUBLISHED) -> None:
        super().__init__()
        self.published = conditioning is PUBLISHED
        if self.published:
            assert conditioning.early is not None
            self.conditioning = conditioning
            self.mask = LabelMask(widths)
            self.plane = conditioning.early(widths, (SIZE, SIZE))
            self.label_axes = {"plane.weight": LabelAxis(1, added=True)}
        self.layers = nn.Sequential(
            nn.Conv2d(3 + conditioning.planes, 32, 5, padding=2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AvgPool2d(2, stride=3),
            nn.Flatten(),
            nn.Linear(64 * 16 * 16, 1024),
            nn.LeakyReLU(0.2, inplace=True),
        )
        if self.published:
            self.layers.append(conditioning.head(widths, 1024))
        else:
            self.condition(conditioning, widths, (SIZE, SIZE), 1024)

    def trunk_levels(self) -> list[list[nn.Module]]:
        """Return the two levels of a convolution and a pooling."""
        return [[self.layers[number] for number in level] for level in (range(3), range(3, 6))]

    def trunk(self, x: Tensor) -> Tensor:
        """Map x (N, 3 or 4, 96, 96) to features (N, 1024), or as published to logits (N, 1)."""
        return self.layers(x.contiguous(memory_format=_format_of(self.layers[0])))

    def score(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map M rows of `features`, label (M, L) and known (M, A) to logits (M,), or (M, 1 + L)."""
        if not self.published:
            return super().score(h, label, known)
        assert self.plane is not None
        plane = self.plane(self.mask(label, known)).view(-1, 1, SIZE, SIZE)
        return self.trunk(torch.cat([h, plane.to(h.dtype)], 1)).squeeze(1)


def _format_of(layer: nn.Module) -> torch.memory_format:
    """Return the memory format of a convolution's weights, so that its input can have the same."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
