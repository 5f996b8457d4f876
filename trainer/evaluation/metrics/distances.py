"""Distances between the distributions of generated and real images, from sets of features.

Symbols are those of the papers. All sums are float64. Every random draw is counter-based, so a value is reproducible.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shards.core import rng
from shards.core.errors import UserError
from shards.core.permutation import permute
from trainer.evaluation.metrics.pairwise import as_finite, blocks, nearest

NEIGHBOURS = 5  # k of precision, recall, density and coverage (Naeem et al. 2020)
MIN_IMAGES_PER_VALUE = 16  # real and generated, below which a distance within one value would be noise


@dataclass(frozen=True)
class Moments:
    """Mean and covariance of features: the Gaussian that a Fréchet distance compares.

    Attributes:
        count: number of rows.
        mean: float64 (F,).
        scatter: float64 (F, F), Σ (x - mean)(x - mean)ᵀ.
    """

    count: int
    mean: np.ndarray
    scatter: np.ndarray

    @classmethod
    def of(cls, features: np.ndarray) -> Moments:
        """Compute the moments of features (N, F).

        Raises:
            UserError: a number is not finite.
        """
        x = as_finite(features, "image")
        if not len(x):
            return cls(0, np.zeros(x.shape[1]), np.zeros((x.shape[1],) * 2))
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    @property
    def covariance(self) -> np.ndarray:
        """Return the unbiased estimate, float64 (F, F).

        Raises:
            UserError: there are fewer than two rows.
        """
        if self.count < 2:
            raise UserError(
                "too-few-images", f"a covariance needs at least 2 images, and there are {self.count}; use more"
            )
        return self.scatter / (self.count - 1)

    @functools.cached_property
    def root(self) -> np.ndarray:
        """Return the symmetric square root of the covariance, float64 (F, F); raises as `covariance` does."""
        values, vectors = np.linalg.eigh(self.covariance)
        return (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T


@dataclass(frozen=True)
class FrechetDistance:
    """A Fréchet distance and what it was computed from.

    Attributes:
        value: at least 0.
        counts: number of real and of generated images.
        dimensions: of the features.
    """

    value: float
    counts: tuple[int, int]
    dimensions: int

    @property
    def rank_deficient(self) -> bool:
        """Return whether a covariance lacks rank (no more images than dimensions), so that the value is too large."""
        return min(self.counts) <= self.dimensions

    @property
    def warning(self) -> str:
        """Return what a reader must know about the value; "" if nothing."""
        if not self.rank_deficient:
            return ""
        return (
            f"{min(self.counts):,} images cannot determine a covariance of {self.dimensions:,} dimensions, so the "
            "Fréchet distance is biased upwards; compare it only with values of the same counts, or use more than "
            f"{self.dimensions:,} images"
        )


def frechet_distance(real: Moments, generated: Moments) -> FrechetDistance:
    """Compute ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁Σ₂)^½): FID, if the features are Inception's (Heusel et al. 2017, eq. 6).

    The trace of the root is that of (Σ₁^½ Σ₂ Σ₁^½)^½, which is symmetric: its eigenvalues are real and, up to rounding,
    non-negative, even if a covariance lacks rank. Σ₁^½ is cached for further distances from the same ``real``.

    Raises:
        UserError: fewer than two images in a set.
    """
    a, b = real.covariance, generated.covariance
    product = real.root @ b @ real.root
    shared = np.sqrt(np.maximum(np.linalg.eigvalsh((product + product.T) / 2), 0)).sum()
    difference = real.mean - generated.mean
    value = float(difference @ difference + np.trace(a) + np.trace(b) - 2 * shared)
    return FrechetDistance(max(value, 0.0), (real.count, generated.count), len(real.mean))


@dataclass(frozen=True)
class KernelDistance:
    """A kernel distance: mean and standard deviation over subsets. The mean is unbiased and may be below 0."""

    mean: float
    std: float
    subset: int  # images in each subset


def kernel_distance(
    real: np.ndarray, generated: np.ndarray, subsets: int = 50, size: int = 1000, seed: int = 0
) -> KernelDistance:
    """Compute KID: the unbiased squared MMD under the kernel (⟨x, y⟩/F + 1)³ (Bińkowski et al. 2018, arXiv 1801.01401).

    Args:
        real, generated: features (N, F), (M, F).
        subsets: number of subsets, each drawn without replacement; one if a subset would be everything.
        size: images per subset; at most the size of the smaller set.
        seed: of the draws.

    Raises:
        UserError: fewer than two images in a set, or features that are not finite.
    """
    x, y = as_finite(real, "real image"), as_finite(generated, "generated image")
    size = min(size, len(x), len(y))
    if size < 2:
        raise UserError(
            "too-few-images", f"a kernel distance needs 2 images in each set, and there are {len(x)} and {len(y)}"
        )
    if size == len(x) == len(y):
        subsets = 1
    values = [
        mmd(x[_subset(len(x), size, seed, "real subset", i)], y[_subset(len(y), size, seed, "generated subset", i)])
        for i in range(subsets)
    ]
    return KernelDistance(float(np.mean(values)), float(np.std(values)), size)


def mmd(x: np.ndarray, y: np.ndarray) -> float:
    """Compute the unbiased squared MMD of (n, F) and (m, F), kernel (⟨x, y⟩/F + 1)³ (Gretton et al. 2012, eq. 3)."""
    within = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (_cubic(x, x), _cubic(y, y))]
    return float(sum(within) - 2 * _cubic(x, y).mean())


def kernel_distance_by_value(
    real: np.ndarray, real_has: np.ndarray, generated: np.ndarray, generated_has: np.ndarray, size: int = 200
) -> list[KernelDistance | None]:
    """Compute the kernel distance within each value: real images that have it against generated ones labelled with it.

    Unlike the distance of all images it depends on labels: a generator that ignores them has a small total distance
    and large ones here ("intra" distances, as Miyato & Koyama 2018 computed for FID).

    Args:
        real, generated: features (N, F), (M, F).
        real_has, generated_has: bool (N, V), (M, V), the values in each image's label.
        size: as for `kernel_distance`.

    Returns:
        V distances; None for a value with fewer than `MIN_IMAGES_PER_VALUE` images in a set.
    """
    found: list[KernelDistance | None] = []
    for value in range(real_has.shape[1]):
        x, y = real[real_has[:, value]], generated[generated_has[:, value]]
        enough = min(len(x), len(y)) >= MIN_IMAGES_PER_VALUE
        found.append(kernel_distance(x, y, subsets=10, size=size, seed=value) if enough else None)
    return found


def mean_of(values: Sequence[KernelDistance | None]) -> float | None:
    """Return the mean of the distances that could be computed, each value weighted equally; None if there are none."""
    means = [value.mean for value in values if value is not None]
    return float(np.mean(means)) if means else None


@dataclass(frozen=True)
class Support:
    """Overlap of the supports of two sets of images. All are fractions, except that density may exceed 1.

    Attributes:
        precision: fraction of generated images inside the support of the real ones (Kynkäänniemi et al. 2019).
        recall: fraction of real images inside the support of the generated ones.
        density: mean number of real neighbourhoods that contain a generated image, over k (Naeem et al. 2020).
        coverage: fraction of real images with a generated image in their neighbourhood.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def support(real: np.ndarray, generated: np.ndarray, k: int = NEIGHBOURS) -> Support:
    """Compute precision and recall (arXiv 1904.06991), density and coverage (arXiv 2002.09797).

    An image's neighbourhood is the open ball that reaches to its k-th nearest neighbour in the same set.

    Args:
        real, generated: features (N, F), (M, F), each with more than k rows.

    Raises:
        UserError: at most k images in a set, or features that are not finite.
    """
    x, y = as_finite(real, "real image"), as_finite(generated, "generated image")
    if min(len(x), len(y)) <= k:
        raise UserError(
            "too-few-images",
            f"{k} neighbours need more than {k} images in each set, and there are {len(x)} and {len(y)}",
        )
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


def _cubic(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _subset(count: int, size: int, seed: int, purpose: str, number: int) -> np.ndarray:
    """Return ``size`` distinct rows of ``count``, int64."""
    base = rng.bits(rng.key(seed, purpose), number)
    return permute(base, count, np.arange(size, dtype=np.int64))
