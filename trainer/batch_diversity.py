"""How much generated pictures differ from each other, held against how much real ones do.

A standard deviation over the global batch is no sum over processes, but the distances of pairs are: half the mean
‖a - b‖² of independent a and b is the variance, added over pixels. Pairs are neighbours in the stream, (0, 1), (2, 3)
and so on: the same pairs whichever process has them, where micro-batches are of even size; the last picture of an odd
one has no pair.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from torch import Tensor

from trainer import metric_names

REAL, FAKE = "spread/real", "spread/fake"


def pair_distances(pictures: Tensor) -> Tensor:
    """Σ ‖a - b‖² over pairs of neighbours: pictures (b, 3, S, S) -> a scalar."""
    pairs = len(pictures) // 2 * 2
    return (pictures[0:pairs:2] - pictures[1:pairs:2]).square().sum()


def with_ratio(values: Mapping[str, float]) -> dict[str, float]:
    """The values with `samples/spread` in place of its two sums, if there were pairs of real pictures that differ.

    It is √(Σ generated / Σ real), the ratio of standard deviations (root mean square over pixels): near 1 where
    generated pictures are as different as real ones of the same labels, and 0 where they are all the same.
    """
    others = {name: value for name, value in values.items() if name not in (REAL, FAKE)}
    real, fake = values[REAL], values[FAKE]
    return others | ({metric_names.SPREAD: math.sqrt(fake / real)} if real > 0 else {})
