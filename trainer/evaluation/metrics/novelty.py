"""Whether generated pictures are new, or the training pictures again, and how much they differ under one label."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shards.core.errors import UserError
from trainer.evaluation.metrics.pairwise import blocks, checked, nearest

QUANTILE = 0.01  # of new real pictures, those that are called near a training picture
FEWEST_HELD_OUT = 50  # real pictures left out of the training, below which the quantile would be noise


@dataclass(frozen=True)
class Novelty:
    """How near generated pictures come to training pictures, held against real ones that were not trained on.

    Attributes:
        distances: float64 (N, k), of each generated picture to its k nearest training pictures.
        rows: int64 (N, k), which they are.
        threshold: the distance that `expected` of held-out real pictures stay under.
        expected: share of pictures that would be called memorised if nothing were.
        memorised: share of generated pictures at most as far from a training picture as ``threshold``.
        copying: Meehan's C_T, a z-score: under -3, generated pictures are nearer to the training pictures than new real
            ones are (copies); around 0, as near; over 3, further away (blur, or pictures unlike any real one).
    """

    distances: np.ndarray
    rows: np.ndarray
    threshold: float
    expected: float
    memorised: float
    copying: float


def novelty(
    generated: np.ndarray, training: np.ndarray, held_out: np.ndarray, k: int = 3, quantile: float = QUANTILE
) -> Novelty:
    """Compare distances to the nearest training picture: of generated pictures, and of real ones held out.

    The comparison of these two sets of distances is the test of Meehan, Chaudhuri & Dasgupta 2020 (arXiv 2004.05675,
    section 3; here over the whole space, as one cell). It asks for ranks, so no distance must mean anything by itself.

    Args:
        generated, training, held_out: features (N, F), (T, F), (H, F). Held-out pictures were not trained on, and are
            of the same kind as the training pictures.
        k: training pictures to name for each generated one; fewer if there are fewer.
        quantile: see `Novelty.expected`.

    Raises:
        UserError: too few pictures, or numbers that are not finite.
    """
    x, t, h = (
        checked(features, f"{what} picture")
        for features, what in ((generated, "generated"), (training, "training"), (held_out, "held-out"))
    )
    if not len(x) or not len(t):
        raise UserError(f"{len(x)} generated and {len(t)} training pictures: to say what is new takes some of each")
    if len(h) < FEWEST_HELD_OUT:
        raise UserError(
            f"{len(h)} real pictures were held out, and to say how near new ones come takes {FEWEST_HELD_OUT}; "
            "keep more of them out of the training"
        )
    distances, rows = nearest(x, t, min(k, len(t)))
    usual = nearest(h, t)[0][:, 0]
    threshold = float(np.quantile(usual, quantile))
    memorised = float((distances[:, 0] <= threshold).mean())
    return Novelty(distances, rows, threshold, quantile, memorised, copying(distances[:, 0], usual))


def copying(generated: np.ndarray, held_out: np.ndarray) -> float:
    """The z-score of the Mann-Whitney statistic: how often a generated picture is further away than a held-out one.

    Args:
        generated, held_out: distances (N,), (H,) to the nearest training picture.
    """
    n, m = len(generated), len(held_out)
    ordered = np.sort(held_out)
    under, upto = (np.searchsorted(ordered, generated, side=side).sum() for side in ("left", "right"))
    statistic = (under + upto) / 2  # pairs whose generated picture is further; an equal pair counts half
    return float((statistic - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))


@dataclass(frozen=True)
class Diversity:
    """How much pictures under one label differ.

    Attributes:
        generated, real: mean distance of two pictures of one label, the mean over the labels that both sides show at
            least twice.
        labels: how many these are.
    """

    generated: float
    real: float
    labels: int

    @property
    def ratio(self) -> float:
        """Near 1: as different as real ones; near 0: a label always gives the same picture (mode collapse)."""
        return self.generated / self.real if self.real > 0 else math.nan


def diversity(
    generated: np.ndarray, generated_labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> Diversity:
    """Mean distances inside labels, generated and real side by side.

    Args:
        generated, real: features (N, F), (M, F).
        generated_labels, real_labels: int (N,), (M,), the number of each picture's label.

    Raises:
        UserError: no label has two pictures on either side, or numbers that are not finite.
    """
    x, y = checked(generated, "generated picture"), checked(real, "real picture")
    numbers, counts = np.unique(generated_labels, return_counts=True)
    twice = [n for n in numbers[counts > 1] if (real_labels == n).sum() > 1]
    if not twice:
        raise UserError("no label has two generated and two real pictures: draw more pictures a label")
    spreads = [(spread(x[generated_labels == n]), spread(y[real_labels == n])) for n in twice]
    drawn, shown = np.mean(spreads, 0)
    return Diversity(float(drawn), float(shown), len(twice))


def spread(features: np.ndarray) -> float:
    """The mean Euclidean distance of two different rows of (N, F), N at least 2."""
    total = sum(float(np.sqrt(_without_itself(rows, squares)).sum()) for rows, squares in blocks(features, features))
    return total / (len(features) * (len(features) - 1))


def _without_itself(rows: slice, squares: np.ndarray) -> np.ndarray:
    squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = 0  # rounding left a little
    return squares
