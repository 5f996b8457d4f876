"""The random draws that parametrize an augmentation."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import torch
from torch import Tensor


def uniform_sizes(purposes: Sequence[str], size: int) -> dict[str, int]:
    """Return the uniform numbers that `Draws` need, ``size`` for each image, as `noise.draw` takes them."""
    return {f"{purpose}, even": size for purpose in purposes if size}


def normal_sizes(purposes: Sequence[str], size: int) -> dict[str, int]:
    """Return the same for normal numbers."""
    return {f"{purpose}, bell": size for purpose in purposes if size}


class Draws:
    """Keyed draws, returned one after the other; each is a vector with one entry per image.

    The images are a batch for each purpose, one batch after the other. The n-th draw does not depend on the use of the
    others.

    Args:
        purposes: name the use of the augmented images.
        numbers: those of `uniform_sizes` and `normal_sizes`, as `noise.draw` returns them.
    """

    def __init__(self, purposes: Sequence[str], numbers: Mapping[str, Tensor]) -> None:
        self.purposes = tuple(purposes)
        self._uniform = _Columns([numbers[name] for name in uniform_sizes(purposes, 1) if name in numbers])
        self._normal = _Columns([numbers[name] for name in normal_sizes(purposes, 1) if name in numbers])

    def fires(self, p: Tensor | float) -> Tensor:
        """Return bool (N,), True with probability p; never at 0, always at 1."""
        return self._uniform.take(("fires", p), lambda u: u < p)

    def between(self, low: float, high: float) -> Tensor:
        """Return uniform draws in (low, high)."""
        return self._uniform.take(("between", low, high), lambda u: low + (high - low) * u)

    def whole(self, count: int) -> Tensor:
        """Return uniform int64 draws in 0 … count - 1."""
        return self._uniform.take(  # rounding may give count
            ("whole", count), lambda u: (u * count).long().clamp(max=count - 1)
        )

    def shift(self, reach: float) -> Tensor:
        """Return uniform draws in [-reach, reach], rounded to int64."""
        name = ("shift", reach)
        return self._uniform.take(name, lambda u: (-reach + 2 * reach * u).round().long())

    def angle(self) -> Tensor:
        """Return uniform draws in (-π, π)."""
        return self.between(-math.pi, math.pi)

    def normal(self, deviation: float) -> Tensor:
        """Return normal draws with mean 0."""
        return self._normal.take(("normal", deviation), lambda n: deviation * n)


class _Columns:
    """Columns of numbers, each taken once, in order, and changed by some function.

    A function is applied to all columns when it is first used: what a kernel costs is its launch, not its few numbers.

    Args:
        parts: (B, C) each; one below the other, they are the columns.
    """

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self._numbers = torch.cat(list(parts)) if parts else torch.empty(0, 0)
        self._changed: dict[Hashable, Tensor] = {}
        self._taken = 0

    def take(self, name: Hashable, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the next column after an elementwise function, of which ``name`` is the only one."""
        if name not in self._changed:
            self._changed[name] = function(self._numbers)
        self._taken += 1
        return self._changed[name][:, self._taken - 1]
