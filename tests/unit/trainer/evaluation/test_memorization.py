"""Copies of training images are found, and new images are not."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from support.errors import raises
from trainer.evaluation.metrics.memorization import QUANTILE, copying, memorization


def real(n: int, seed: int) -> np.ndarray:
    """Features (n, 16) of ten kinds of images."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 16)) * 3
    return centres[rng.integers(10, size=n)] + rng.normal(size=(n, 16))


def test_generator_that_copies_training_images_is_found() -> None:
    training = real(800, 0)
    copied = np.random.default_rng(2).integers(800, size=200)
    copies = memorization(training[copied], training)
    assert copies.memorised == 1 and copies.copying < -10
    assert np.array_equal(copies.rows[:, 0], copied) and (copies.distances[:, 0] == 0).all()
    assert (np.diff(copies.distances, axis=1) >= 0).all() and copies.rows.shape == (200, 3)

    nearly = memorization(training[copied] + np.random.default_rng(3).normal(0, 0.1, (200, 16)), training)
    assert nearly.memorised > 0.95 and nearly.copying < -10 and (nearly.rows[:, 0] == copied).mean() > 0.95


def test_generator_of_new_images_is_not_found() -> None:
    found = memorization(real(1000, 3), real(800, 0))
    assert found.memorised < 0.03 and abs(found.copying) < 3 and QUANTILE == 0.01


def test_some_copies_among_new_images_are_counted() -> None:
    training = real(800, 0)
    found = memorization(np.concatenate([training[:100], real(900, 3)]), training)
    assert found.memorised == pytest.approx(0.11, abs=0.015)


def test_collapsed_generator_is_far_or_near() -> None:
    training = real(800, 0)
    assert memorization(np.full((100, 16), 9.0), training).copying > 3
    assert memorization(np.repeat(training[:1], 100, 0), training).memorised == 1


def test_copies_of_training_images_that_occur_twice_are_found() -> None:
    """The threshold is 0 then, and an exact copy still counts."""
    training = real(400, 0)
    found = memorization(training[:50], np.concatenate([training, training[:100]]))
    assert found.threshold == 0 and found.memorised == 1


def test_copying_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 500, 80).astype(float), rng.integers(100, 500, 120).astype(float)
    u, n, m = scipy.stats.mannwhitneyu(a, b).statistic, 80, 120
    assert copying(a, b) == pytest.approx((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def test_too_few_images_are_an_error() -> None:
    with raises("too-few-images", 10, 1):
        memorization(real(10, 0), real(1, 1))
    with raises("too-few-images", 0, 10):
        memorization(real(0, 0), real(10, 1))
