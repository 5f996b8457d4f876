"""The numbers that decide what an augmentation does to each picture of a batch."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.noise import normal, uniform


class Draws:
    """Keyed draws, handed out one after the other; each is a vector (B,) with an entry a picture.

    All are hashed at once (many small hashes would cost more than the augmentation), so that their number is given
    first. The n-th draw is the same whatever the others are used for.

    Args:
        seed: the run's seed.
        purpose: which pictures are augmented, and for whom.
        positions: int64 (B,), the pictures' places in the stream.
        dtype: of the pictures.
        even: how many uniform draws there are.
        bell: how many normal ones.
    """

    def __init__(
        self, seed: int, purpose: str, positions: Tensor, dtype: torch.dtype, *, even: int, bell: int = 0
    ) -> None:
        self._even = iter(uniform(seed, f"{purpose}, even", positions, even, dtype).unbind(1))
        self._bell = iter(normal(seed, f"{purpose}, bell", positions, bell, dtype).unbind(1))

    def fires(self, p: Tensor | float) -> Tensor:
        """bool, true with probability p: never at 0, always at 1."""
        return next(self._even) < p

    def between(self, low: float, high: float) -> Tensor:
        """Evenly spread over (low, high)."""
        return low + (high - low) * next(self._even)

    def whole(self, count: int) -> Tensor:
        """int64, each of 0 … count - 1 equally often."""
        return (next(self._even) * count).long().clamp(max=count - 1)  # the product may be rounded up to count

    def angle(self) -> Tensor:
        """Radians, in (-π, π)."""
        return self.between(-math.pi, math.pi)

    def normal(self, deviation: float) -> Tensor:
        """Normal around 0."""
        return deviation * next(self._bell)
