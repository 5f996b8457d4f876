"""How a label enters a network.

A label is a vector of L numbers in A attributes, with a mask that says which attributes are known. The value
bits of an unknown attribute never reach a network. Where a label is embedded, a learned null vector stands in
their place, so that a picture without labels, or with some, teaches like any other; the article's networks,
which are kept as published, see zeros there.

A discriminator takes its label in one of four ways (`HEADS`). Late: *projection* and *concatenation* hold the label
against the features of a picture. Early: a *plane* that is drawn from the label is the picture's fourth channel. Not at
all: a *classifier* is asked which label the picture has, and it is the loss that holds its answer against the label.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class LabelMask(nn.Module):
    """Zeroes the entries of a label vector that belong to unknown attributes, and brings the others to one loudness.

    Args:
        widths: entries of each attribute, in vector order; L = sum(widths), A = len(widths).

    Attributes:
        centre, scale: (L,), 0 and 1 but for numbers that are measured (`trainer.label_scaling`); saved with the
            weights.
    """

    attribute_of: Tensor
    centre: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        attribute_of = torch.tensor([attribute for attribute, width in enumerate(widths) for _ in range(width)])
        self.register_buffer("attribute_of", attribute_of, persistent=False)
        self.register_buffer("centre", torch.zeros(len(attribute_of)))
        self.register_buffer("scale", torch.ones(len(attribute_of)))

    def forward(self, label: Tensor, known: Tensor) -> Tensor:
        """label (B, L) float, known (B, A) float of 0 and 1 -> (B, L)."""
        return (label - self.centre) * self.scale * known[:, self.attribute_of]


def set_loudness(network: nn.Module, centre: Tensor, scale: Tensor) -> None:
    """Let every label that enters a network enter as (y - centre) · scale; both (L,)."""
    for layer in network.modules():
        if isinstance(layer, LabelMask):
            layer.centre.copy_(centre)
            layer.scale.copy_(scale)


class LabelEmbedding(nn.Module):
    """e(y, known) = W (y · known) + V (1 - known): a value vector a known attribute, a null vector an unknown one.

    Args:
        widths: entries of each attribute.
        size: length of the embedding.
    """

    def __init__(self, widths: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.mask = LabelMask(widths)
        self.value = nn.Linear(sum(widths), size, bias=False)
        self.null = nn.Linear(len(widths), size, bias=False)
        # A label of A attributes is a sum of A columns: this makes its embedding as loud as unit noise.
        for linear in (self.value, self.null):
            nn.init.normal_(linear.weight, 0.0, len(widths) ** -0.5)

    def forward(self, label: Tensor, known: Tensor) -> Tensor:
        """label (B, L), known (B, A) -> (B, size)."""
        return self.value(self.mask(label, known)) + self.null(1 - known)


class ProjectionHead(nn.Module):
    """logit = ⟨e(y), h⟩ / √c + ψ(h) (Miyato & Koyama 2018, arXiv 1802.05637, equation 5).

    ψ scores the picture by itself: without it a picture of no known attribute would score nothing.

    Args:
        widths: entries of each attribute.
        channels: c, length of the picture's feature vector.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.embedding = LabelEmbedding(widths, channels)
        self.psi = nn.Linear(channels, 1)
        self.scale = channels**-0.5

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h (B, c), label (B, L), known (B, A) -> logits (B,)."""
        direction = self.embedding(label, known) * self.scale + self.psi.weight
        return (direction * h).sum(1) + self.psi.bias


class ConcatenationHead(nn.Module):
    """logit = w · act(W [h, e(y)]): feature and label meet in one hidden layer.

    The late concatenation of Reed et al. 2016 (arXiv 1605.05396, section 4.1), with their 128 numbers a label.

    Args:
        widths: entries of each attribute.
        channels: c, length of the picture's feature vector, and of the hidden layer.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        code = 128
        self.embedding = LabelEmbedding(widths, code)
        self.hidden = nn.Linear(channels + code, channels)
        self.logit = nn.Linear(channels, 1)

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h (B, c), label (B, L), known (B, A) -> logits (B,)."""
        code = self.embedding(label, known).to(h.dtype)
        return self.logit(F.leaky_relu(self.hidden(torch.cat([h, code], 1)), 0.2)).squeeze(1)


class UnconditionalHead(nn.Module):
    """logit = ψ(h), for features that know the label already.

    Args:
        widths: not looked at.
        channels: c, length of the picture's feature vector.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.psi = nn.Linear(channels, 1)

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h (B, c) -> logits (B,); label and known are not looked at."""
        return self.psi(h).squeeze(1)


class ClassifierHead(nn.Module):
    """ψ(h) and, from the same features, a score for every entry of the label (AC-GAN: Odena et al. 2017, section 3).

    Args:
        widths: entries of each attribute; L is their sum.
        channels: c, length of the picture's feature vector.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.psi = nn.Linear(channels, 1)
        self.classes = nn.Linear(channels, sum(widths))

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """h (B, c) -> (B, 1 + L), a logit and the scores; label and known are not looked at."""
        return torch.cat([self.psi(h), self.classes(h)], 1)


class LabelPlane(nn.Module):
    """A label as a channel of the picture: its embedding, one number a pixel.

    Args:
        widths: entries of each attribute.
        size: S, the picture's side.
    """

    def __init__(self, widths: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.embedding = LabelEmbedding(widths, size * size)
        self.size = size

    def forward(self, label: Tensor, known: Tensor) -> Tensor:
        """label (B, L), known (B, A) -> (B, 1, S, S)."""
        return self.embedding(label, known).view(-1, 1, self.size, self.size)


# Conditioning -> what scores the features of a trunk, made by (widths, channels).
HEADS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "projection": ProjectionHead,
    "concatenation": ConcatenationHead,
    "plane": UnconditionalHead,
    "classifier": ClassifierHead,
}
