"""Diversity of generated images relative to real ones.

A standard deviation over the global batch is not a sum over ranks, but distances of pairs are: half the mean ‖a - b‖²
of independent a and b is the variance, summed over pixels. Pairs are neighbours in the stream, (0, 1), (2, 3) and so
on. With micro-batches of even size they are the same on any number of ranks; the last image of an odd one has no pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from trainer import metric_names

DISTANCES_REAL, DISTANCES_FAKE = "spread/real", "spread/fake"  # sums, which are replaced before logging


def pair_distances(images: Tensor) -> Tensor:
    """Return Σ ‖a - b‖² over pairs of neighbours: images (b, C, H, W) -> scalar."""
    pairs = len(images) // 2 * 2
    return (images[0:pairs:2] - images[1:pairs:2]).square().sum()


def with_spread_ratio(values: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics with `samples/spread` in place of the two sums; without it if real images do not differ.

    It is √(Σ generated / Σ real), the ratio of standard deviations (root mean square over pixels): near 1 if generated
    images differ as much as real ones with the same labels, and 0 if they are all the same.
    """
    others = {name: value for name, value in values.items() if name not in (DISTANCES_REAL, DISTANCES_FAKE)}
    real, fake = values[DISTANCES_REAL], values[DISTANCES_FAKE]
    return others | ({metric_names.SPREAD: math.sqrt(fake / real)} if real > 0 else {})
