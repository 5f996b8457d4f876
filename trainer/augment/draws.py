"""The random draws that parametrize an augmentation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from trainer.noise import draw


class Draws:
    """Keyed draws, returned one after the other; each is a vector with one entry per image.

    The images are a batch for each purpose, one batch after the other. All draws are hashed at once, since many small
    hashes would cost more than the augmentation; so their number is given in advance. The n-th draw does not depend on
    the use of the others.

    Args:
        seed: seed of the run.
        purposes: name the use of the augmented images.
        positions: int64 (B,), the images' positions in the stream, the same for each purpose.
        dtype: of the images.
        even: number of uniform draws.
        bell: number of normal draws.
    """

    def __init__(
        self, seed: int, purposes: Sequence[str], positions: Tensor, dtype: torch.dtype, *, even: int, bell: int = 0
    ) -> None:
        uniform = {f"{purpose}, even": even for purpose in purposes}
        normal = {f"{purpose}, bell": bell for purpose in purposes if bell}
        found = draw(seed, positions, dtype, uniform=uniform, normal=normal)
        self._even = iter(torch.cat([found[name] for name in uniform]).unbind(1))
        self._bell = iter(torch.cat([found[name] for name in normal]).unbind(1) if bell else ())

    def fires(self, p: Tensor | float) -> Tensor:
        """Return bool (N,), True with probability p; never at 0, always at 1."""
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
