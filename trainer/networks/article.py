"""The networks of the article, kept to the layer: the reproduction baseline, at 96x96 only.

The one change: the discriminator ends in a logit, where the article puts a sigmoid and the loss takes its
logarithm; the logit form is the same function, and stays finite in half precision.
"""

import torch
from torch import Tensor, nn

from trainer.networks.conditioning import LabelMask
from trainer.networks.discriminator import Discriminator

SIZE = 96
_BASE = 192  # the generator works at twice the picture's size and halves it at the end


class ArticleGenerator(nn.Module):
    """z, y -> picture: one wide Linear to 15 planes of 192x192, then three convolutions.

    Args:
        noise: length of z.
        widths: entries of each label attribute.
    """

    def __init__(self, noise: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.mask = LabelMask(widths)
        self.linear = nn.Linear(noise + sum(widths), 15 * _BASE * _BASE)
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
        """z (B, noise), label (B, L), known (B, A) -> pictures (B, 3, 96, 96) in [-1, 1]."""
        x = self.linear(torch.cat([z, self.mask(label, known)], 1)).view(-1, 15, _BASE, _BASE)
        x = self.layers[:2](x)  # plane by plane, as it comes: with channels last a CPU takes seven times as long
        return self.layers[2:](x.contiguous(memory_format=_format_of(self.layers[2])))


class ArticleDiscriminator(Discriminator):
    """picture, y -> logit: as published, the label becomes a fourth plane of the picture.

    Args:
        widths: entries of each label attribute.
        conditioning: "plane", or another in its place, which scores the 1024 features of the picture alone.
    """

    def __init__(self, widths: tuple[int, ...], conditioning: str = "plane") -> None:
        super().__init__()
        self.early = conditioning == "plane"
        if self.early:
            self.mask = LabelMask(widths)
            self.plane = nn.Linear(sum(widths), SIZE * SIZE)
        self.layers = nn.Sequential(
            nn.Conv2d(4 if self.early else 3, 32, 5, padding=2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AvgPool2d(2),
            nn.Conv2d(32, 64, 5, padding=2),
            nn.LeakyReLU(0.2, inplace=True),
            nn.AvgPool2d(2, stride=3),
            nn.Flatten(),
            nn.Linear(64 * 16 * 16, 1024),
            nn.LeakyReLU(0.2, inplace=True),
        )
        if self.early:
            self.layers.append(nn.Linear(1024, 1))
        else:
            self.condition(conditioning, widths, SIZE, 1024)

    def trunk(self, x: Tensor) -> Tensor:
        """x (N, 3 or 4, 96, 96) -> features (N, 1024), or as published the logits (N, 1)."""
        return self.layers(x.contiguous(memory_format=_format_of(self.layers[0])))

    def features(self, x: Tensor) -> Tensor:
        """x (N, 3, 96, 96) -> (N, 1024); as published the picture itself, for the label enters before the layers."""
        return x if self.early else self.trunk(x)

    def score(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """What `features` returned with M rows, label (M, L), known (M, A) -> logits (M,), or (M, 1 + L)."""
        if not self.early:
            return self.head(h, label, known)
        assert self.plane is not None
        plane = self.plane(self.mask(label, known)).view(-1, 1, SIZE, SIZE)
        return self.trunk(torch.cat([h, plane.to(h.dtype)], 1)).squeeze(1)


def _format_of(layer: nn.Module) -> torch.memory_format:
    """The memory format that a convolution's weights are kept in, so that its input can follow."""
    weight = layer.weight
    assert isinstance(weight, Tensor)
    channels_last = weight.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if channels_last else torch.contiguous_format
