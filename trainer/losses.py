"""Losses as pure functions of logits.

Sign: a discriminator's logit is positive for "real, and matching its label". Every function returns the *sum* over
its samples, or a value a sample that is to be masked or weighed, never a mean: the step divides by the count of the
whole global batch, which masks make different from rank to rank.

Shapes: real, fake, wrong are logits (B,), float32 or better; ``has_wrong`` is a 0/1 mask (B,).
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
    """The two players' losses in one form.

    Attributes:
        discriminator: (real, fake) -> sum; parts one and two.
        mismatch: (real, wrong) -> a value a sample (B,); part three, a picture under a label that is wrong for it.
        generator: (fake, real) -> sum.
        needs_real: whether the generator's loss looks at the real pictures' logits.
    """

    discriminator: PairLoss
    mismatch: PairLoss
    generator: PairLoss
    needs_real: bool


def matching_aware_d(real: Tensor, fake: Tensor) -> Tensor:
    """-Σ log σ(real) - Σ log(1 - σ(fake)): parts one and two of GAN-CLS (Reed et al. 2016, algorithm 1).

    Published, parts two and three weigh one half; here one each, and part three has an option of its own.
    """
    return F.softplus(-real).sum() + F.softplus(fake).sum()


def matching_aware_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """-log(1 - σ(wrong)) a sample: part three of GAN-CLS."""
    return F.softplus(wrong)


def non_saturating_g(fake: Tensor, real: Tensor) -> Tensor:
    """-Σ log σ(fake) (Goodfellow et al. 2014, section 3)."""
    return F.softplus(-fake).sum()


def hinge_d(real: Tensor, fake: Tensor) -> Tensor:
    """Σ max(0, 1 - real) + Σ max(0, 1 + fake) (Lim & Ye 2017, arXiv 1705.02894)."""
    return F.relu(1 - real).sum() + F.relu(1 + fake).sum()


def hinge_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """max(0, 1 + wrong) a sample."""
    return F.relu(1 + wrong)


def hinge_g(fake: Tensor, real: Tensor) -> Tensor:
    """-Σ fake."""
    return -fake.sum()


def least_squares_d(real: Tensor, fake: Tensor) -> Tensor:
    """½ Σ (real - 1)² + ½ Σ fake² (Mao et al. 2017, arXiv 1611.04076, equation 9: a = 0, b = c = 1)."""
    return ((real - 1).square().sum() + fake.square().sum()) / 2


def least_squares_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """½ wrong² a sample."""
    return wrong.square() / 2


def least_squares_g(fake: Tensor, real: Tensor) -> Tensor:
    """½ Σ (fake - 1)²."""
    return (fake - 1).square().sum() / 2


def relativistic_d(real: Tensor, fake: Tensor) -> Tensor:
    """-Σ log σ(real - fake): each real picture against a generated one of its label (RpGAN; R3GAN, equation 2)."""
    return F.softplus(fake - real).sum()


def relativistic_wrong(real: Tensor, wrong: Tensor) -> Tensor:
    """-log σ(real - wrong) a sample: a real picture's own label against a wrong one."""
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


def gradient_penalty(logits: Tensor, pictures: Tensor) -> Tensor:
    """Σ ‖∂logit/∂picture‖²: R1 on real pictures, R2 on generated ones (Mescheder et al. 2018, arXiv 1801.04406, eq. 9).

    Keeps its graph, so that the penalty itself can be differentiated.

    Args:
        logits: (M,), computed from ``pictures`` sample by sample.
        pictures: (N, 3, S, S), requires grad.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), pictures, create_graph=True)
    return gradient.square().sum()


# ---------------------------------------------------------------- an auxiliary classifier's

# The kind of an attribute -> how unlikely its entries y are by the scores s, both (B, w) -> (B, 1); of tags, which are
# taken together, (B, w).
_SURPRISE: dict[str, PairLoss] = {
    "exclusive": lambda s, y: -(y * s.log_softmax(1)).sum(1, keepdim=True),
    "tag": lambda s, y: F.binary_cross_entropy_with_logits(s, y, reduction="none"),
    "vector": lambda s, y: (s - y).square().sum(1, keepdim=True) / 2,
    "text": lambda s, y: (s - y).square().sum(1, keepdim=True) / 2,
}


def class_loss(scores: Tensor, label: Tensor, known: Tensor, kinds: Sequence[str], widths: Sequence[int]) -> Tensor:
    """-log P(y | x) a sample, by the scores of an auxiliary classifier (AC-GAN: Odena et al. 2017, section 3, L_C).

    Attributes are taken as independent given the picture: an exclusive one has the cross-entropy over its entries, a
    tag the binary one; numbers are a regression, half the squared error (in the loudness of a word, so that none
    weighs more than another: see `trainer.label_scaling`). Unknown ones count nothing.
    Labels half way between two are taken as probabilities.

    Args:
        scores: (B, L), of the label's entries.
        label: (B, L).
        known: (B, A), 0 or 1.
        kinds: "exclusive", "tag", "vector" or "text", of each attribute.
        widths: entries of each attribute.

    Returns:
        (B,), sums over the known attributes.
    """
    names, entries, attributes = zip(*_blocks(kinds, widths), strict=True)
    parts = zip(names, scores.split(entries, 1), label.split(entries, 1), known.split(attributes, 1), strict=True)
    return torch.cat([_SURPRISE[kind](s, y) * k for kind, s, y, k in parts], 1).sum(1)


def _blocks(kinds: Sequence[str], widths: Sequence[int]) -> list[tuple[str, int, int]]:
    """Kind, entries and attributes: of each attribute, but of neighbouring tags together, as there may be thousands."""
    blocks: list[tuple[str, int, int]] = []
    for kind, width in zip(kinds, widths, strict=True):
        _, entries, attributes = blocks.pop() if kind == "tag" and blocks and blocks[-1][0] == "tag" else ("", 0, 0)
        blocks.append((kind, entries + width, attributes + 1))
    return blocks
