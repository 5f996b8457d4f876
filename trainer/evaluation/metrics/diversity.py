"""Diversity: how much images of one label differ."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shards.core.errors import UserError
from trainer.evaluation.metrics.pairwise import as_finite, blocks


@dataclass(frozen=True)
class Diversity:
    """Mean distances between two images of one label.

    Attributes:
        generated, real: averaged over the labels of which both sets have at least two images.
        labels: the number of these labels.
    """

    generated: float
    real: float
    labels: int

    @property
    def ratio(self) -> float:
        """Return generated over real: near 1, as diverse as real; near 0, one image per label (mode collapse)."""
        return self.generated / self.real if self.real > 0 else math.nan


def diversity(
    generated: np.ndarray, generated_labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> Diversity:
    """Compare mean distances within labels, of generated and of real images.

    Args:
        generated, real: features (N, F), (M, F).
        generated_labels, real_labels: int (N,), (M,), the number of each image's label.

    Raises:
        UserError: no label has two images in both sets, or features are not finite.
    """
    x, y = as_finite(generated, "generated image"), as_finite(real, "real image")
    numbers, counts = np.unique(generated_labels, return_counts=True)
    shared = [n for n in numbers[counts > 1] if (real_labels == n).sum() > 1]
    if not shared:
        raise UserError(
            "too-few-images", "no label has two generated and two real images; generate more images per label"
        )
    distances = [(mean_distance(x[generated_labels == n]), mean_distance(y[real_labels == n])) for n in shared]
    of_generated, of_real = np.mean(distances, 0)
    return Diversity(float(of_generated), float(of_real), len(shared))


def mean_distance(features: np.ndarray) -> float:
    """Return the mean Euclidean distance between two different rows of (N, F), N at least 2."""
    total = 0.0
    for rows, squares in blocks(features, features):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = 0  # rounding leaves a small remainder
        total += float(np.sqrt(squares).sum())
    return total / (len(features) * (len(features) - 1))
