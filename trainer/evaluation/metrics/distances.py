"""How far generated pictures are from real ones as distributions: distances between sets of features.

The symbols are the papers'. All sums are float64. Every draw is keyed, so a figure is the same whenever it is computed.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from shards.core import rng
from shards.core.errors import UserError
from shards.core.permutation import permute
from trainer.evaluation.metrics.pairwise import blocks, checked, nearest

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020)
FEWEST = 16  # pictures of one value, real and generated, below which its own distance would say nothing


@dataclass(frozen=True)
class Moments:
    """Count, mean and scatter of features: what a Gaussian needs, added up part by part in any order.

    Parts of many processes merge into the moments of all (Chan, Golub & LeVeque 1979), without the cancellation that
    sums of squares suffer.

    Attributes:
        count: rows.
        mean: float64 (F,).
        scatter: float64 (F, F), Σ (x - mean)(x - mean)ᵀ.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """The moments of features (N, F); of no rows, too.

        Raises:
            UserError: a number is not finite.
        """
        x = checked(features, "picture")
        if not len(x):
            return cls(0, np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2))
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    @classmethod
    def total(cls, parts: Iterable[Moments]) -> Moments:
        """The moments of all parts together; there must be one."""
        first, *rest = parts
        for part in rest:
            first = first + part
        return first

    def __add__(self, other: Moments) -> Moments:
        if not (self.count and other.count):
            return self if self.count else other
        count, between = self.count + other.count, other.mean - self.mean
        shared = self.count * other.count / count
        mean = self.mean + between * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + shared * np.outer(between, between))

    @property
    def covariance(self) -> np.ndarray:
        """The unbiased estimate, float64 (F, F).

        Raises:
            UserError: fewer than two rows.
        """
        if self.count < 2:
            raise UserError(f"a covariance needs at least 2 pictures, and there are {self.count}; compare more")
        return self.scatter / (self.count - 1)

    @functools.cached_property
    def root(self) -> np.ndarray:
        """The symmetric root of the covariance, float64 (F, F); raises as `covariance`."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@dataclass(frozen=True)
class Frechet:
    """A Fréchet distance and what it was made from.

    Attributes:
        value: at least 0.
        counts: pictures on either side.
        dimensions: of the features.
    """

    value: float
    counts: tuple[int, int]
    dimensions: int

    @property
    def deficient(self) -> bool:
        """Whether a covariance lacks rank: no more pictures than dimensions, so the value is much too large."""
        return min(self.counts) <= self.dimensions

    @property
    def remark(self) -> str:
        """What a reader must be told; empty if nothing."""
        if not self.deficient:
            return ""
        return (
            f"{min(self.counts):,} pictures cannot fill a covariance of {self.dimensions:,} dimensions: the Fréchet "
            f"distance is biased upwards; compare it only with figures of the same counts, or use over "
            f"{self.dimensions:,} pictures"
        )


def frechet(real: Moments, generated: Moments) -> Frechet:
    """‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½): FID, if the features are Inception's (Heusel et al. 2017, eq. 6).

    The root's trace is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric: its eigenvalues are real and, but for rounding,
    not negative, also where a covariance lacks rank. Σ₁^½ is kept for the next distance from the same ``real``.

    Raises:
        UserError: fewer than two pictures on a side.
    """
    a, b = real.covariance, generated.covariance
    product = real.root @ b @ real.root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    difference = real.mean - generated.mean
    value = float(difference @ difference + np.trace(a) + np.trace(b) - 2 * shared)
    return Frechet(max(value, 0.0), (real.count, generated.count), len(real.mean))


@dataclass(frozen=True)
class Kernel:
    """A kernel distance: mean and standard deviation over subsets; the mean is unbiased and may be under 0."""

    mean: float
    std: float
    subset: int  # pictures in each


def kernel(real: np.ndarray, generated: np.ndarray, subsets: int = 50, size: int = 1000, seed: int = 0) -> Kernel:
    """KID: the unbiased squared MMD under the kernel (⟨x, y⟩/F + 1)³ (Bińkowski et al. 2018, arXiv 1801.01401).

    Args:
        real, generated: features (N, F), (M, F).
        subsets: how many are drawn, each without repetition; one where a subset would be everything.
        size: pictures in a subset; the smaller side's count if that is less.
        seed: of the draws.

    Raises:
        UserError: fewer than two pictures on a side, or numbers that are not finite.
    """
    x, y = checked(real, "real picture"), checked(generated, "generated picture")
    size = min(size, len(x), len(y))
    if size < 2:
        raise UserError(f"a kernel distance needs 2 pictures on each side, and there are {len(x)} and {len(y)}")
    if size == len(x) == len(y):
        subsets = 1
    values = [
        mmd(x[_subset(len(x), size, seed, "real subset", i)], y[_subset(len(y), size, seed, "generated subset", i)])
        for i in range(subsets)
    ]
    return Kernel(float(np.mean(values)), float(np.std(values)), size)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """The unbiased squared MMD of (n, F) and (m, F) under the kernel (⟨x, y⟩/F + 1)³ (Gretton et al. 2012, eq. 3)."""
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_cubes(x, x), _cubes(y, y))]
    return float(sum(within) - 2 * _cubes(x, y).mean())


def kernel_by_value(
    real: np.ndarray, real_has: np.ndarray, generated: np.ndarray, generated_has: np.ndarray, size: int = 200
) -> list[Kernel | None]:
    """The kernel distance of each value's pictures: whether those that were asked to show it look like those that do.

    Other than that of all pictures it sees labels: a generator that ignores them has a small total distance and large
    ones here ("intra" distances, as Miyato & Koyama 2018 did for FID).

    Args:
        real, generated: features (N, F), (M, F).
        real_has, generated_has: bool (N, V), (M, V), which picture has, or was asked to have, which value.
        size: as for `kernel`.

    Returns:
        V distances; None for a value of fewer than `FEWEST` pictures on a side.
    """
    found: list[Kernel | None] = []
    for value in range(real_has.shape[1]):
        x, y = real[real_has[:, value]], generated[generated_has[:, value]]
        found.append(kernel(x, y, subsets=10, size=size, seed=value) if min(len(x), len(y)) >= FEWEST else None)
    return found


def mean_of(values: Sequence[Kernel | None]) -> float | None:
    """The mean of the distances that there are, each value counted once; None: there is none."""
    means = [value.mean for value in values if value is not None]
    return float(np.mean(means)) if means else None


@dataclass(frozen=True)
class Support:
    """How two sets of pictures lie among each other, each a share; density alone may be over 1.

    Attributes:
        precision: of generated pictures, those inside the real ones' support (Kynkäänniemi et al. 2019).
        recall: of real pictures, those inside the generated ones' support.
        density: how many real neighbourhoods hold a generated picture, over k (Naeem et al. 2020).
        coverage: of real pictures, those with a generated one in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def support(real: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS) -> Support:
    """Precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    A picture's neighbourhood is the open ball that reaches to its k-th nearest of the same set.

    Args:
        real, generated: features (N, F), (M, F), each with more than k rows.

    Raises:
        UserError: no more than k pictures on a side, or numbers that are not finite.
    """
    x, y = checked(real, "real picture"), checked(generated, "generated picture")
    if min(len(x), len(y)) <= k:
        raise UserError(f"{k} neighbours need more than {k} pictures on each side, and there are {len(x)} and {len(y)}")
    real_radius, generated_radius = (nearest(z, z, k, same=True)[0][:, -1] ** 2 for z in (x, y))
    precise = density = 0
    recalled, covered = np.zeros(len(x), bool), np.zeros(len(x), bool)
    for rows, squares in blocks(y, x):
        inside = squares < real_radius
        precise += int(inside.any(1).sum())
        density += int(inside.sum())
        covered |= inside.any(0)
        recalled |= (squares < generated_radius[rows, None]).any(0)
    return Support(precise / len(y), float(recalled.mean()), density / (k * len(y)), float(covered.mean()))


def halves(count: int, seed: int = 0, size: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Rows of two disjoint draws of ``count`` pictures, of equal size: what real pictures measure against real ones.

    Every distance is biased or noisy at a finite count: what the two halves of the real pictures measure is the figure
    that a perfect generator would reach at that count, and the one to hold a generator's against.

    Args:
        count: pictures there are, at least 2.
        size: of each half; ⌊count / 2⌋ if not given.

    Raises:
        UserError: too few pictures.
    """
    size = count // 2 if size is None else size
    if not 1 <= size <= count // 2:
        raise UserError(f"{count} pictures do not make two disjoint sets of {max(size, 1)}; compare fewer")
    rows = _subset(count, 2 * size, seed, "halves", 0)
    return rows[:size], rows[size:]


def _cubes(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _subset(count: int, size: int, seed: int, purpose: str, number: int) -> np.ndarray:
    """int64 (size,): different rows of ``count``."""
    base = rng.bits(rng.key(seed, purpose), number)
    return permute(base, count, np.arange(size, dtype=np.int64))
