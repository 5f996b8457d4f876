"""Copies of training pictures are found out, new pictures are not, and a collapsed label shows."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.stats

from shards.core.errors import UserError
from trainer.evaluation.metrics.novelty import copying, diversity, novelty, spread


def real(n: int, seed: int) -> np.ndarray:
    """Features (n, 16) of ten kinds of pictures."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 16)) * 3
    return centres[rng.integers(10, size=n)] + rng.normal(size=(n, 16))


def test_a_generator_of_training_pictures_is_found_out() -> None:
    training, held_out = real(800, 0), real(300, 1)
    taken = np.random.default_rng(2).integers(800, size=200)
    copies = novelty(training[taken], training, held_out)
    assert copies.memorised == 1 and copies.copying < -10
    assert np.array_equal(copies.rows[:, 0], taken) and (copies.distances[:, 0] == 0).all()
    assert (np.diff(copies.distances, axis=1) >= 0).all() and copies.rows.shape == (200, 3)

    nearly = novelty(training[taken] + np.random.default_rng(3).normal(0, 0.1, (200, 16)), training, held_out)
    assert nearly.memorised > 0.95 and nearly.copying < -10 and (nearly.rows[:, 0] == taken).mean() > 0.95


def test_a_generator_of_new_pictures_is_not() -> None:
    found = novelty(real(1000, 3), real(800, 0), real(500, 1))
    assert found.memorised < 0.03 and abs(found.copying) < 3 and found.expected == 0.01


def test_some_copies_among_new_pictures_are_counted() -> None:
    training = real(800, 0)
    found = novelty(np.concatenate([training[:100], real(900, 3)]), training, real(500, 1))
    assert found.memorised == pytest.approx(0.11, abs=0.015)


def test_a_collapsed_generator_is_far_or_near_and_says_so() -> None:
    training, held_out = real(800, 0), real(300, 1)
    assert novelty(np.full((100, 16), 9.0), training, held_out).copying > 3
    assert novelty(np.repeat(training[:1], 100, 0), training, held_out).memorised == 1


def test_copies_of_training_pictures_that_come_twice_are_found() -> None:
    """Where held-out pictures are in the training set too, the threshold is 0, and an exact copy is still one."""
    training = real(400, 0)
    found = novelty(training[:50], training, training[:100])
    assert found.threshold == 0 and found.memorised == 1


def test_copying_is_the_mann_whitney_statistic() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 500, 80).astype(float), rng.integers(100, 500, 120).astype(float)
    u, n, m = scipy.stats.mannwhitneyu(a, b).statistic, 80, 120
    assert copying(a, b) == pytest.approx((u - n * m / 2) / np.sqrt(n * m * (n + m + 1) / 12))


def test_too_little_to_tell_is_said() -> None:
    with pytest.raises(UserError, match="takes 50"):
        novelty(real(10, 0), real(10, 1), real(49, 2))
    with pytest.raises(UserError, match="0 generated"):
        novelty(real(0, 0), real(10, 1), real(50, 2))
    with pytest.raises(UserError, match="no label has two"):
        diversity(real(3, 0), np.arange(3), real(3, 1), np.arange(3))


def test_diversity_is_the_mean_distance_within_labels() -> None:
    x, y, labels = real(60, 0), real(40, 1), np.arange(60) % 4
    found = diversity(x, labels, y, labels[:40])
    each = [
        np.mean([np.linalg.norm(x[i] - x[j]) for i in range(60) for j in range(60) if i != j and i % 4 == j % 4 == n])
        for n in range(4)
    ]
    assert found.generated == pytest.approx(np.mean(each))
    assert found.labels == 4 and 0.5 < found.ratio < 2
    collapsed = diversity(x[labels], labels, y, labels[:40])
    assert collapsed.ratio < 1e-6


def test_only_labels_of_both_sides_count() -> None:
    found = diversity(real(6, 0), np.array([0, 0, 1, 1, 2, 3]), real(5, 1), np.array([0, 0, 1, 2, 2]))
    assert found.labels == 1


def test_spread_of_copies_is_nothing() -> None:
    assert spread(np.repeat(real(1, 0) + 1e3, 5, 0)) < 1e-6
    assert spread(np.array([[0.0, 0], [3, 4]])) == pytest.approx(5)
