"""Losses as pure functions of logits.

A logit of the discriminator is positive for "real, and matching its label". Every function returns the *sum* over its
samples, or one value per sample that the step masks, but never a mean: the step divides by the count of the global
batch, which masks make different from rank to rank.

Shapes: real, fake and wrong are logits (B,), float32 or float64. To add a loss, add its functions and an entry of
`LOSSES`, from which the choices of --loss are read.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

PairLoss = Callable[[Tensor, Tensor], Tensor]
ClassLoss = Callable[[Tensor, Tensor, Tensor], Tensor]  # class scores (B, L), labels (B, L), known (B, A) -> (B,)


@dataclass(frozen=True)
class AdversarialLoss:
    """The losses of discriminator and generator.

    Attributes:
        discriminator: (real, fake) -> sum; the first two of its three parts.
        mismatch: (real, wrong) -> one value per sample (B,); the third part, an image under a wrong label.
        generator: (fake, real) -> sum.
        needs_real: whether the loss compares logits of real and generated images (relativistic).
    """

    discriminator: PairLoss
    mismatch: PairLoss
    generator: PairLoss
    needs_real: bool


def matching_aware_d(real: Tensor, fake: Tensor) -> Tensor:
    """-Σ log σ(real) - Σ log(1 - σ(fake)): parts one and two of GAN-CLS (Reed et al. 2016, algorithm 1).

    As published, parts two and three have a weight of one half; here it is one, and --mismatch-weight for part three.
    """
    return F.softplus(-real).sum() + F.softplus(fake).sum()


def matching_aware_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """-log(1 - σ(wrong)) per sample: part three of GAN-CLS."""
    return F.softplus(wrong)


def non_saturating_g(fake: Tensor, real: Tensor) -> Tensor:
    """-Σ log σ(fake) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).sum()


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Σ max(0, 1 - real) + Σ max(0, 1 + fake) (Lim & Ye 2017, arXiv 1705.02894)."""
    return F.relu(1 - real).sum() + F.relu(1 + fake).sum()


def hinge_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """max(0, 1 + wrong) per sample."""
    return F.relu(1 + wrong)


def hinge_g(fake: Tensor, real: Tensor) -> Tensor:
    """-Σ fake."""
    return -fake.sum()


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """½ Σ (real - 1)² + ½ Σ fake² (Mao et al. 2017, arXiv 1611.04076, equation 9: a = 0, b = c = 1)."""
    return ((real - 1).square().sum() + fake.square().sum()) / 2


def least_squares_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """½ wrong² per sample."""
    return wrong.square() / 2


def least_squares_g(fake: Tensor, real: Tensor) -> Tensor:
    """½ Σ (fake - 1)²."""
    return (fake - 1).square().sum() / 2


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """-Σ log σ(real - fake): each real image against a generated one of its label (RpGAN; R3GAN, equation 2)."""
    return F.softplus(fake - real).sum()


def relativistic_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """-log σ(real - wrong) per sample: the true label of a real image against a wrong one."""
    return F.softplus(wrong - real)


def relativistic_g(fake: Tensor, real: Tensor) -> Tensor:
    """-Σ log σ(fake - real)."""
    return F.softplus(real - fake).sum()


LOSSES: dict[str, AdversarialLoss] = {
    "matching-aware": AdversarialLoss(matching_aware_d, matching_aware_wrong, non_saturating_g, needs_real=False),
    "hinge": AdversarialLoss(hinge_d, hinge_wrong, hinge_g, needs_real=False),
    "least-squares": AdversarialLoss(least_squares_d, least_squares_wrong, least_squares_g, needs_real=False),
    "relativistic": AdversarialLoss(relativistic_d, relativistic_wrong, relativistic_g, needs_real=True),
}


def image_slopes(logits: Tensor, images: Tensor) -> Tensor:
    """Return ∂logit/∂image for each image, (N, C, H, W), differentiable; 0 for images without a logit.

    The sum of their squares is the gradient penalty: R1 on real images, R2 on generated ones (Mescheder et al. 2018,
    arXiv 1801.04406, eq. 9).

    Args:
        logits: (M,), computed from ``images`` sample by sample.
        images: (N, C, H, W), requires grad.
    """
    (slopes,) = torch.autograd.grad(logits.sum(), images, create_graph=True)
    return slopes


# ---------------------------------------------------------------- loss of predicted labels

# Negative log-likelihood of label entries y under scores s, both (B, w), by kind of attribute -> (B, 1); for tags, of
# which neighbouring ones are computed together, (B, w). Captions are compared with those of the third argument, (K, w).
_NEGATIVE_LOG_LIKELIHOOD: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "exclusive": lambda s, y, _: -(y * s.log_softmax(1)).sum(1, keepdim=True),
    "tag": lambda s, y, _: F.binary_cross_entropy_with_logits(s, y, reduction="none"),
    "vector": lambda s, y, _: (s - y).square().sum(1, keepdim=True) / 2,
    "text": lambda s, y, others: -torch.cat([(s * y).sum(1, keepdim=True), s @ others.t()], 1).log_softmax(1)[:, :1],
}


def class_loss(
    scores: Tensor,
    labels: Tensor,
    known: Tensor,
    kinds: Sequence[str],
    widths: Sequence[int],
    captions: Tensor | None = None,
) -> Tensor:
    """-log P(y | x) per sample under scores of label entries (AC-GAN: Odena et al. 2017, section 3, L_C).

    Attributes are independent given the image: an exclusive one has the cross-entropy over its entries, a tag the
    binary cross-entropy, and numbers half the squared error (after `trainer.labels.scaling`, so that none has more
    weight than another). A caption is told from others: its score is ⟨s, y⟩, and it has the cross-entropy over itself
    and the others (InfoNCE: van den Oord et al. 2018, arXiv 1807.03748, equation 4; between images and sentences in
    XMC-GAN: Zhang et al. 2021, arXiv 2101.04702). Unknown attributes contribute nothing. Interpolated words are taken
    as probabilities.

    Args:
        scores: (B, L), of the label's entries.
        labels: (B, L).
        known: (B, A), 0 where unknown; elsewhere 1, or the weight of the attribute.
        kinds: "exclusive", "tag", "vector" or "text", for each attribute.
        widths: label entries of each attribute.
        captions: (K, L), labels of images with captions; None: captions contribute nothing.

    Returns:
        (B,), sums over the known attributes.
    """
    others = labels[:0] if captions is None else captions
    names, entries, attributes = zip(*_blocks(kinds, widths), strict=True)
    split = (each.split(entries, 1) for each in (scores, labels, others))
    parts = zip(names, *split, known.split(attributes, 1), strict=True)
    return torch.cat([_NEGATIVE_LOG_LIKELIHOOD[kind](s, y, o) * k for kind, s, y, o, k in parts], 1).sum(1)


def _blocks(kinds: Sequence[str], widths: Sequence[int]) -> list[tuple[str, int, int]]:
    """Return kind, entries and attributes of each block: an attribute, or all neighbouring tags (maybe thousands)."""
    blocks: list[tuple[str, int, int]] = []
    for kind, width in zip(kinds, widths, strict=True):
        _, entries, attributes = blocks.pop() if kind == "tag" and blocks and blocks[-1][0] == "tag" else ("", 0, 0)
        blocks.append((kind, entries + width, attributes + 1))
    return blocks
