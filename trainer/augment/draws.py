"""The random draws that parametrize an augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from trainer.noise import normal, uniform


class Draws:
    """Keyed draws, returned one after the other; each is a vector (B,) with one entry per image.

    All are hashed at once, since many small hashes would cost more than the augmentation; so their number is given in
    advance. The n-th draw does not depend on the use of the others.

    Args:
        seed: seed of the run.
        purpose: names the use of the augmented images.
        positions: int64 (B,), the images' positions in the stream.
        dtype: of the images.
        even: number of uniform draws.
        bell: number of normal draws.
    """

    def __init__(
        self, seed: int, purpose: str, positions: Tensor, dtype: torch.dtype, *, even: int, bell: int = 0
    ) -> None:
        self._even = iter(uniform(seed, f"{purpose}, even", positions, even, dtype).unbind(1))
        self._bell = iter(normal(seed, f"{purpose}, bell", positions, bell, dtype).unbind(1))

    def fires(self, p: Tensor | float) -> Tensor:
        """Return bool (B,), True with probability p; never at 0, always at 1."""
        return next(self._even) < p

    def between(self, low: float, high: float) -> Tensor:
        """Return uniform draws in (low, high)."""
        return low + (high - low) * next(self._even)

    def whole(self, count: int) -> Tensor:
        """Return uniform int64 draws in 0 … count - 1."""
        return (next(self._even) * count).long().clamp(max=count - 1)  # rounding may give count

    def angle(self) -> Tensor:
        """Return uniform draws in (-π, π)."""
        return self.between(-math.pi, math.pi)

    def normal(self, deviation: float) -> Tensor:
        """Return normal draws with mean 0."""
        return deviation * next(self._bell)
