"""Memorization: whether generated images are copies of training images."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from shards.core.errors import UserError
from trainer.evaluation.metrics.pairwise import as_finite, nearest

QUANTILE = 0.01  # of the distances between real images, below which a generated image counts as memorised
_MAX_BASELINE = 2000  # training images whose own nearest distances are the baseline


@dataclass(frozen=True)
class Memorization:
    """Distances of generated images to the training images, compared with those among training images.

    Attributes:
        distances: float64 (N, k), from each generated image to its k nearest training images.
        rows: int64 (N, k), indices of those training images.
        threshold: the `QUANTILE` of the distances of real images to their nearest training image.
        memorised: fraction of generated images within ``threshold`` of a training image; `QUANTILE` is expected if
            nothing is memorised.
        copying: Meehan's C_T, a z-score: below -3, generated images are nearer to the training images than other real
            images are (copies); around 0, equally near; above 3, further away (blurred, or unlike any real image).
    """

    distances: np.ndarray
    rows: np.ndarray
    threshold: float
    memorised: float
    copying: float


def memorization(generated: np.ndarray, training: np.ndarray, k: int = 3) -> Memorization:
    """Compare distances to the nearest training image: of generated images, and of real ones.

    This is the test of Meehan, Chaudhuri & Dasgupta 2020 (arXiv 2004.05675, section 3) with the whole space as one
    cell. It uses ranks only, so the scale of the distances does not matter. The paper's baseline is held-out images,
    which a run that was trained on all images does not have. The baseline here is each training image against all
    others: a new image of the same kind would be equally far from them.

    Args:
        generated, training: features (N, F), (T, F), T at least 2.
        k: training images to list per generated image; fewer if there are fewer.

    Raises:
        UserError: too few images, or features that are not finite.
    """
    x, t = as_finite(generated, "generated image"), as_finite(training, "training image")
    if not len(x) or len(t) < 2:
        raise UserError(
            "too-few-images",
            f"memorization needs a generated image and 2 training images, and there are {len(x)} and {len(t)}",
        )
    baseline = nearest(t[:_MAX_BASELINE], t, 2)[0][:, 1]  # the first is the image itself, at distance 0
    distances, rows = nearest(x, t, min(k, len(t)))
    threshold = float(np.quantile(baseline, QUANTILE))
    memorised = float((distances[:, 0] <= threshold).mean())
    return Memorization(distances, rows, threshold, memorised, copying(distances[:, 0], baseline))


def copying(generated: np.ndarray, baseline: np.ndarray) -> float:
    """Return the z-score of the Mann-Whitney statistic: how often a generated image is further away than a real one.

    Args:
        generated, baseline: distances (N,), (H,) to the nearest training image.
    """
    n, m = len(generated), len(baseline)
    ordered = np.sort(baseline)
    below, up_to = (np.searchsorted(ordered, generated, side=side).sum() for side in ("left", "right"))
    statistic = (below + up_to) / 2  # pairs in which the generated image is further away; a tie counts half
    return float((statistic - n * m / 2) / math.sqrt(n * m * (n + m + 1) / 12))
