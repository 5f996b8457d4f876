"""How a label enters a network.

A label is a vector of L numbers in A attributes, with a 0/1 mask of the known attributes. The entries of an unknown
attribute never reach a network: a learned null vector replaces them where a label is embedded, so that images with few
labels, or none, train the same networks. The article's networks, which are kept as published, see zeros instead.

`CONDITIONINGS` holds the ways in which a discriminator uses a label. To add one, write its modules and its entry here,
and name it in `trainer.config.network`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trainer.networks.label_axes import LabelAxis

FEW = 4  # attributes of which each counts


class LabelMask(nn.Module):
    """Zero the entries of unknown attributes, and scale the others to one magnitude.

    Args:
        widths: entries of each attribute, in vector order; L = sum(widths), A = len(widths).

    Attributes:
        centre, scale: buffers (L,), saved with the weights: 0 and 1 except for continuous attributes (see
            `trainer.labels.scaling`).
    """

    attribute_of: Tensor
    centre: Tensor
    scale: Tensor
    label_axes: ClassVar = {"centre": LabelAxis(0), "scale": LabelAxis(0)}

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.attributes = len(widths)
        attribute_of = torch.tensor([attribute for attribute, width in enumerate(widths) for _ in range(width)])
        self.register_buffer("attribute_of", attribute_of, persistent=False)
        self.register_buffer("centre", torch.zeros(len(attribute_of)))
        self.register_buffer("scale", torch.ones(len(attribute_of)))

    def forward(self, label: Tensor, known: Tensor) -> Tensor:
        """Map label (B, L) and known (B, A), a float mask of 0 and 1, to (B, L)."""
        return (label - self.centre) * self.scale * known[:, self.attribute_of]


def set_label_scaling(network: nn.Module, centre: Tensor, scale: Tensor) -> None:
    """Make every label enter a network as (y - centre) · scale; both are (L,)."""
    for layer in network.modules():
        if isinstance(layer, LabelMask):
            layer.centre.copy_(centre)
            layer.scale.copy_(scale)


class LabelEmbedding(nn.Module):
    """e(y, known) = W (y · known) + V (1 - known): a value vector per known attribute, a null vector per unknown one.

    Args:
        widths: entries of each attribute.
        size: length of the embedding.

    Attributes:
        weights: buffer (A,), factors of the attributes' vectors, saved with the weights: see
            `trainer.labels.weights`. None for up to four attributes.
    """

    weights: Tensor | None
    label_axes: ClassVar = {
        "value.weight": LabelAxis(1, added=True),
        "null.weight": LabelAxis(1, "attributes", added=True),
        "weights": LabelAxis(0, "attributes"),
    }

    def __init__(self, widths: tuple[int, ...], size: int) -> None:
        super().__init__()
        self.mask = LabelMask(widths)
        self.value = nn.Linear(sum(widths), size, bias=False)
        self.null = nn.Linear(len(widths), size, bias=False)
        # A label of A attributes is a sum of A columns: its embedding gets the variance of unit noise.
        for linear in (self.value, self.null):
            nn.init.normal_(linear.weight, 0.0, len(widths) ** -0.5)
        self.register_buffer("weights", torch.ones(len(widths)) if len(widths) > FEW else None)

    def forward(self, label: Tensor, known: Tensor) -> Tensor:
        """Map label (B, L) and known (B, A) to (B, size)."""
        unknown = 1 - known
        if self.weights is not None:
            known, unknown = known * self.weights, unknown * self.weights
        return self.value(self.mask(label, known)) + self.null(unknown)


@torch.no_grad()
def set_attribute_weights(network: nn.Module, weights: Tensor) -> None:
    """Let the vectors of attributes enter a new network by weights (A,), for A > 4.

    Initial vectors become as long as those of four attributes are.
    """
    for layer in network.modules():
        if isinstance(layer, LabelEmbedding) and layer.weights is not None:
            layer.weights.copy_(weights)
            for linear in (layer.value, layer.null):
                linear.weight.mul_((len(weights) / FEW) ** 0.5)


class Modulation(nn.Module):
    """γ(w) ⊙ h + β(w), one factor and one offset per channel and image; the identity at initialization.

    Self-modulation (Chen et al. 2019, arXiv 1810.01365, section 2) without normalization, and with one linear layer
    in place of a perceptron: what a channel says depends on the noise and the label, here w = [z, e(y)].

    Args:
        code: length of w.
        channels: C, channels of h.
    """

    def __init__(self, code: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2 * channels, code))
        self.bias = nn.Parameter(torch.cat([torch.ones(channels), torch.zeros(channels)]))

    def forward(self, h: Tensor, w: Tensor) -> Tensor:
        """Map h (B, C, s, s) and w (B, code) to (B, C, s, s)."""
        factor, offset = F.linear(w, self.weight, self.bias)[:, :, None, None].to(h.dtype).chunk(2, 1)
        return torch.addcmul(offset, factor, h)


class ProjectionHead(nn.Module):
    """logit = ⟨e(y), h⟩ / √c + ψ(h) (Miyato & Koyama 2018, arXiv 1802.05637, equation 5).

    ψ scores the image alone: without it, an image without a known attribute would always score 0.

    Column j of the embedding is a classifier's weight vector: what entry j of a label adds to the logit, ⟨W_j, h⟩ / √c,
    is its score, whether the label has it or not (ECGAN: Chen et al. 2021, arXiv 2111.01035, section 3).

    Args:
        widths: entries of each attribute.
        channels: c, length of the image's feature vector.

    Attributes:
        scores_labels: return the scores of all label entries as well; False: logits only.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.embedding = LabelEmbedding(widths, channels)
        self.psi = nn.Linear(channels, 1)
        self.scale = channels**-0.5
        self.scores_labels = False

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map h (B, c), label (B, L) and known (B, A) to logits (B,); to (B, 1 + L) if ``scores_labels``."""
        direction = self.embedding(label, known) * self.scale + self.psi.weight
        logits = (direction * h).sum(1) + self.psi.bias
        if not self.scores_labels:
            return logits
        scores = F.linear(h, self.embedding.value.weight.t()) * self.scale
        return torch.cat([logits[:, None], scores.to(logits.dtype)], 1)


class ConcatenationHead(nn.Module):
    """logit = w · act(W [h, e(y)]): features and label meet in one hidden layer.

    The late concatenation of Reed et al. 2016 (arXiv 1605.05396, section 4.1), with their label code of length 128.

    Args:
        widths: entries of each attribute.
        channels: c, length of the image's feature vector, and of the hidden layer.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        code = 128
        self.embedding = LabelEmbedding(widths, code)
        self.hidden = nn.Linear(channels + code, channels)
        self.logit = nn.Linear(channels, 1)

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map h (B, c), label (B, L) and known (B, A) to logits (B,)."""
        code = self.embedding(label, known).to(h.dtype)
        return self.logit(F.leaky_relu(self.hidden(torch.cat([h, code], 1)), 0.2)).squeeze(1)


class UnconditionalHead(nn.Module):
    """logit = ψ(h), for features that depend on the label already.

    Args:
        widths: ignored.
        channels: c, length of the image's feature vector.
    """

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.psi = nn.Linear(channels, 1)

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map h (B, c) to logits (B,); label and known are ignored."""
        return self.psi(h).squeeze(1)


class ClassifierHead(nn.Module):
    """ψ(h) and, from the same features, a score per label entry (AC-GAN: Odena et al. 2017, section 3).

    Args:
        widths: entries of each attribute; L is their sum.
        channels: c, length of the image's feature vector.
    """

    label_axes: ClassVar = {"classes.weight": LabelAxis(0), "classes.bias": LabelAxis(0)}

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.psi = nn.Linear(channels, 1)
        self.classes = nn.Linear(channels, sum(widths))

    def forward(self, h: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map h (B, c) to (B, 1 + L), the logit and the scores; label and known are ignored."""
        return torch.cat([self.psi(h), self.classes(h)], 1)


class LabelPlane(nn.Module):
    """Append a label to an image as one more channel: its embedding, one number per pixel.

    Args:
        widths: entries of each attribute.
        sides: H and W, of the image.
    """

    def __init__(self, widths: tuple[int, ...], sides: tuple[int, int]) -> None:
        super().__init__()
        self.embedding = LabelEmbedding(widths, math.prod(sides))
        self.sides = sides

    def forward(self, x: Tensor, label: Tensor, known: Tensor) -> Tensor:
        """Map images (B, C, H, W), label (B, L) and known (B, A) to (B, C + 1, H, W)."""
        plane = self.embedding(label, known).view(-1, 1, *self.sides)
        return torch.cat([x, plane.to(x.dtype)], 1)


@dataclass(frozen=True)
class Conditioning:
    """A way in which a discriminator uses a label.

    Attributes:
        head: builds the module that scores features, from (widths, c): (h (M, c), label, known) -> (M,) logits, or
            (M, 1 + L) if ``classifies``.
        early: builds the module that puts the label into the image before the trunk, from (widths, (H, W)):
            (x (M, C, H, W), label, known) -> (M, C + planes, H, W). None: the trunk sees images alone, and runs once
            per image, however many labels the image is scored under.
        planes: channels that ``early`` appends to the image.
        classifies: the logit ignores the label, and a score for each of the L label entries follows it. The step then
            trains both networks with a classification loss.
        embeds_entries: the head has a vector for each label entry in the space of features; with ``scores_labels``, a
            score for each entry follows the logit, and the step trains D with a classification loss as well.
    """

    head: Callable[[tuple[int, ...], int], nn.Module]
    early: Callable[[tuple[int, ...], tuple[int, int]], nn.Module] | None = None
    planes: int = 0
    classifies: bool = False
    embeds_entries: bool = False


CONDITIONINGS: dict[str, Conditioning] = {
    "projection": Conditioning(ProjectionHead, embeds_entries=True),
    "concatenation": Conditioning(ConcatenationHead),
    "plane": Conditioning(UnconditionalHead, early=LabelPlane, planes=1),
    "classifier": Conditioning(ClassifierHead, classifies=True),
}
