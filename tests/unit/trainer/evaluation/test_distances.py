"""Distances between distributions of features, compared with other implementations, closed forms and brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from support.errors import raises
from trainer.evaluation.metrics import pairwise
from trainer.evaluation.metrics.distances import (
    MIN_IMAGES_PER_VALUE,
    Moments,
    frechet_distance,
    kernel_distance,
    kernel_distance_by_value,
    mean_of,
    support,
)


def gaussian(n: int, dimensions: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated features (n, dimensions)."""
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    return np.random.default_rng(seed).normal(size=(n, dimensions)) @ mixing * scale + shift


class Given(torch.nn.Module):
    """Features as torchmetrics expects them: computed from "images" by a module."""

    num_features = 24

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def as_images(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(features)[:, :, None, None]


def test_frechet_distance_equals_scipy_and_torchmetrics() -> None:
    x, y = gaussian(400, 24, 0), gaussian(300, 24, 1, 0.3, 1.4)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    found = frechet_distance(Moments.of(x), Moments.of(y))
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert not found.rank_deficient and not found.warning

    theirs = FrechetInceptionDistance(Given(), normalize=True, input_img_size=(24, 1, 1))
    theirs.set_dtype(torch.float64)
    theirs.update(as_images(x), real=True)
    theirs.update(as_images(y), real=False)
    assert found.value == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_frechet_distance_of_gaussians_equals_the_closed_form() -> None:
    """Between N(0, 1) and N(m, s²) in each of F dimensions it is F (m² + (s - 1)²)."""
    x = np.random.default_rng(0).normal(size=(40_000, 8))
    y = np.random.default_rng(1).normal(0.5, 2.0, size=(40_000, 8))
    assert frechet_distance(Moments.of(x), Moments.of(y)).value == pytest.approx(8 * (0.25 + 1), rel=0.02)
    assert frechet_distance(Moments.of(x), Moments.of(x)).value == pytest.approx(0, abs=1e-9)


def test_too_few_images_are_a_warning_or_an_error() -> None:
    few = frechet_distance(Moments.of(gaussian(20, 24, 0)), Moments.of(gaussian(300, 24, 1)))
    assert few.rank_deficient and "20 images" in few.warning and np.isfinite(few.value)
    enough = frechet_distance(Moments.of(gaussian(300, 24, 0)), Moments.of(gaussian(300, 24, 1)))
    assert few.value > enough.value
    with raises("too-few-images", 2, 1):
        frechet_distance(Moments.of(gaussian(1, 24, 0)), Moments.of(gaussian(9, 24, 0)))


@pytest.mark.filterwarnings("ignore:Metric:UserWarning")  # it keeps all features
def test_kernel_distance_equals_torchmetrics_and_the_definition() -> None:
    x, y = gaussian(60, 24, 0), gaussian(60, 24, 1, 0.2)
    theirs = KernelInceptionDistance(Given(), subsets=1, subset_size=60, normalize=True)
    theirs.set_dtype(torch.float64)
    theirs.update(as_images(x), real=True)
    theirs.update(as_images(y), real=False)
    found = kernel_distance(x, y, size=60)
    assert found.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-6)
    assert found.subset == 60 and found.std == 0

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / 24 + 1) ** 3

    pairs = [(i, j) for i in range(60) for j in range(60)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (60 * 59)
    assert found.mean == pytest.approx(within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 3600)


def test_kernel_distance_is_unbiased_and_reproducible() -> None:
    """Its mean over small subsets is 0 within its error for one distribution, and not for different ones."""
    x, y = gaussian(2000, 6, 0), gaussian(2000, 6, 1)
    same = kernel_distance(x, y, subsets=100, size=50)
    assert abs(same.mean) < 4 * same.std / 10
    assert same.std > 0 and same.subset == 50
    assert kernel_distance(x, y, subsets=100, size=50) == same
    assert kernel_distance(x, y, subsets=100, size=50, seed=1) != same
    assert kernel_distance(x, y + 0.5, subsets=100, size=50).mean > 10 * abs(same.mean)
    with raises("too-few-images", 2, 1, 2000):
        kernel_distance(x, y[:1])


def test_support_equals_prdc(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(150, 6, 0), gaussian(110, 6, 1, 0.4, 0.8)
    expected = compute_prdc(x, y, nearest_k=5)
    assert 0 < expected["recall"] < 1 and 0 < expected["coverage"] < 1  # it could differ
    for block in (1 << 24, 300):  # all at once, and two rows at a time
        monkeypatch.setattr(pairwise, "_BLOCK", block)
        assert vars(support(x, y)) == pytest.approx(expected)
    with raises("too-few-images", 5):
        support(x, y[:5])


def test_nearest_equals_brute_force(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairwise, "_BLOCK", 100)
    x, y = gaussian(30, 4, 0, 1e3), gaussian(40, 4, 1, 1e3)
    y[7] = x[3]
    every = np.linalg.norm(x[:, None] - y[None], axis=2)
    found, rows = pairwise.nearest(x, y, 3)
    assert np.allclose(found, np.sort(every, 1)[:, :3], rtol=1e-6)
    assert np.array_equal(rows, np.argsort(every, 1)[:, :3])
    assert found[3, 0] == 0 and rows[3, 0] == 7
    own, others = pairwise.nearest(x, x, 29, same=True)
    assert (own > 0).all() and all(sorted([i, *row]) == list(range(30)) for i, row in enumerate(others))
    with pytest.raises(ValueError, match="30 neighbours among 29"):
        pairwise.nearest(x, x, 30, same=True)


def test_shuffled_labels_show_in_the_distance_by_value_and_not_in_total() -> None:
    rng = np.random.default_rng(0)
    has = np.eye(3, dtype=bool)[rng.integers(3, size=600)]
    has[:, 2] &= np.cumsum(has[:, 2]) < MIN_IMAGES_PER_VALUE  # too few of the third value
    centres = np.zeros((3, 6))
    centres[0, 0] = centres[1, 1] = 3
    real, drawn = (has @ centres + rng.normal(size=(600, 6)) for _ in range(2))
    right = kernel_distance_by_value(real, has, drawn, has)
    wrong = kernel_distance_by_value(real, has, drawn, has[rng.permutation(600)])
    assert right[2] is None and wrong[2] is None and right[0] and right[1]
    assert (mean_of(wrong) or 0) > 10 * abs(mean_of(right) or 0)
    assert kernel_distance(real, drawn).mean < (mean_of(wrong) or 0) / 10
    assert mean_of([None]) is None


@pytest.mark.parametrize(
    "measure", [kernel_distance, support, lambda x, y: frechet_distance(Moments.of(x), Moments.of(y))]
)
def test_features_that_are_not_finite_are_an_error(measure: Callable[[np.ndarray, np.ndarray], object]) -> None:
    x, y = gaussian(40, 4, 0), gaussian(40, 4, 1)
    y[5, 2] = np.nan
    with raises("non-finite", "image 5"):
        measure(x, y)
