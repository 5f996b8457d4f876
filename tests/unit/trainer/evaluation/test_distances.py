"""Distances between distributions of features: against other implementations, closed forms and brute force."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given
from hypothesis import strategies as st
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance
from torchmetrics.image.kid import KernelInceptionDistance

from shards.core.errors import UserError
from trainer.evaluation.metrics import pairwise
from trainer.evaluation.metrics.distances import (
    FEWEST,
    Moments,
    frechet,
    halves,
    kernel,
    kernel_by_value,
    mean_of,
    support,
)


def gaussian(n: int, dimensions: int, seed: int, shift: float = 0.0, scale: float = 1.0) -> np.ndarray:
    """Correlated features (n, dimensions)."""
    mixing = np.random.default_rng(99).normal(size=(dimensions, dimensions)) / np.sqrt(dimensions)
    return np.random.default_rng(seed).normal(size=(n, dimensions)) @ mixing * scale + shift


class Given(torch.nn.Module):
    """The features as torchmetrics wants them: computed from "pictures" by a module."""

    num_features = 24

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(1)


def as_pictures(features: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(features)[:, :, None, None]


def test_frechet_is_that_of_scipys_root_and_of_torchmetrics() -> None:
    x, y = gaussian(400, 24, 0), gaussian(300, 24, 1, 0.3, 1.4)
    a, b = np.cov(x, rowvar=False), np.cov(y, rowvar=False)
    root = np.real(scipy.linalg.sqrtm(a @ b))
    expected = ((x.mean(0) - y.mean(0)) ** 2).sum() + np.trace(a + b - 2 * root)
    found = frechet(Moments.of(x), Moments.of(y))
    assert found.value == pytest.approx(expected, rel=1e-9)
    assert not found.deficient and not found.remark

    theirs = FrechetInceptionDistance(Given(), normalize=True, input_img_size=(24, 1, 1))
    theirs.set_dtype(torch.float64)
    theirs.update(as_pictures(x), real=True)
    theirs.update(as_pictures(y), real=False)
    assert found.value == pytest.approx(float(theirs.compute()), rel=1e-6)


def test_frechet_of_gaussians_is_the_closed_form() -> None:
    """Of N(0, 1) and N(m, s²) in each of F dimensions it is F (m² + (s - 1)²)."""
    x = np.random.default_rng(0).normal(size=(40_000, 8))
    y = np.random.default_rng(1).normal(0.5, 2.0, size=(40_000, 8))
    assert frechet(Moments.of(x), Moments.of(y)).value == pytest.approx(8 * (0.25 + 1), rel=0.02)
    assert frechet(Moments.of(x), Moments.of(x)).value == pytest.approx(0, abs=1e-9)


def test_too_few_pictures_are_said() -> None:
    few = frechet(Moments.of(gaussian(20, 24, 0)), Moments.of(gaussian(300, 24, 1)))
    assert few.deficient and "20 pictures" in few.remark and np.isfinite(few.value)
    enough = frechet(Moments.of(gaussian(300, 24, 0)), Moments.of(gaussian(300, 24, 1)))
    assert few.value > enough.value
    with pytest.raises(UserError, match="at least 2 pictures"):
        frechet(Moments.of(gaussian(1, 24, 0)), Moments.of(gaussian(9, 24, 0)))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=6), st.floats(-1e4, 1e4))
def test_moments_of_parts_add_up(counts: list[int], shift: float) -> None:
    x = gaussian(sum(counts), 5, 0, shift)
    parts = np.split(x, np.cumsum(counts)[:-1])
    whole, total = Moments.of(x), Moments.total(Moments.of(part) for part in parts)
    assert total.count == whole.count
    assert np.allclose(total.mean, whole.mean, rtol=1e-12, atol=1e-9)
    assert np.allclose(total.scatter, whole.scatter, rtol=1e-9, atol=1e-7)


@pytest.mark.filterwarnings("ignore:Metric:UserWarning")  # it keeps all features
def test_kernel_is_that_of_torchmetrics_and_of_the_definition() -> None:
    x, y = gaussian(60, 24, 0), gaussian(60, 24, 1, 0.2)
    theirs = KernelInceptionDistance(Given(), subsets=1, subset_size=60, normalize=True)
    theirs.set_dtype(torch.float64)
    theirs.update(as_pictures(x), real=True)
    theirs.update(as_pictures(y), real=False)
    found = kernel(x, y, size=60)
    assert found.mean == pytest.approx(float(theirs.compute()[0]), rel=1e-6)
    assert found.subset == 60 and found.std == 0

    def k(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / 24 + 1) ** 3

    pairs = [(i, j) for i in range(60) for j in range(60)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / (60 * 59)
    assert found.mean == pytest.approx(within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 3600)


def test_kernel_is_unbiased_and_repeats() -> None:
    """Its mean over small subsets of one distribution is 0 within its error, and not where they differ."""
    x, y = gaussian(2000, 6, 0), gaussian(2000, 6, 1)
    same = kernel(x, y, subsets=100, size=50)
    assert abs(same.mean) < 4 * same.std / 10
    assert same.std > 0 and same.subset == 50
    assert kernel(x, y, subsets=100, size=50) == same
    assert kernel(x, y, subsets=100, size=50, seed=1) != same
    assert kernel(x, y + 0.5, subsets=100, size=50).mean > 10 * abs(same.mean)
    with pytest.raises(UserError, match="2 pictures on each side"):
        kernel(x, y[:1])


def test_support_is_that_of_prdc(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = gaussian(150, 6, 0), gaussian(110, 6, 1, 0.4, 0.8)
    expected = compute_prdc(x, y, nearest_k=5)
    assert 0 < expected["recall"] < 1 and 0 < expected["coverage"] < 1  # it could differ
    for block in (1 << 24, 300):  # all at once, and two rows at a time
        monkeypatch.setattr(pairwise, "_BLOCK", block)
        assert vars(support(x, y)) == pytest.approx(expected)
    with pytest.raises(UserError, match="more than 5"):
        support(x, y[:5])


def test_nearest_is_that_of_all_differences(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_labels_that_are_mixed_up_show_by_value_and_not_in_total() -> None:
    rng = np.random.default_rng(0)
    has = np.eye(3, dtype=bool)[rng.integers(3, size=600)]
    has[:, 2] &= np.cumsum(has[:, 2]) < FEWEST  # too few of the third value
    centres = np.zeros((3, 6))
    centres[0, 0] = centres[1, 1] = 3
    real, drawn = (has @ centres + rng.normal(size=(600, 6)) for _ in range(2))
    right = kernel_by_value(real, has, drawn, has)
    wrong = kernel_by_value(real, has, drawn, has[rng.permutation(600)])
    assert right[2] is None and wrong[2] is None and right[0] and right[1]
    assert (mean_of(wrong) or 0) > 10 * abs(mean_of(right) or 0)
    assert kernel(real, drawn).mean < (mean_of(wrong) or 0) / 10
    assert mean_of([None]) is None


@given(st.integers(2, 300), st.integers(0, 5))
def test_halves_share_nothing(count: int, seed: int) -> None:
    a, b = halves(count, seed)
    assert len(a) == len(b) == count // 2
    assert len({*a.tolist(), *b.tolist()}) == 2 * len(a) and max(*a, *b) < count
    assert [part.tolist() for part in halves(count, seed)] == [a.tolist(), b.tolist()]


def test_halves_need_enough() -> None:
    assert [len(part) for part in halves(100, size=20)] == [20, 20]
    with pytest.raises(UserError, match="100 pictures do not make two disjoint sets of 51"):
        halves(100, size=51)


@pytest.mark.parametrize("measure", [kernel, support, lambda x, y: frechet(Moments.of(x), Moments.of(y))])
def test_numbers_that_are_not_finite_are_refused(measure: Callable[[np.ndarray, np.ndarray], object]) -> None:
    x, y = gaussian(40, 4, 0), gaussian(40, 4, 1)
    y[5, 2] = np.nan
    with pytest.raises(UserError, match=r"picture 5 .* not finite"):
        measure(x, y)
