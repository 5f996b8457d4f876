"""Diversity is the mean distance within labels, and is near 0 if a label always gives the same image."""

from __future__ import annotations

import numpy as np
import pytest

from support.errors import raises
from trainer.evaluation.metrics.diversity import diversity, mean_distance


def features(n: int, seed: int) -> np.ndarray:
    """Features (n, 16) of ten kinds of images."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(size=(10, 16)) * 3
    return centres[rng.integers(10, size=n)] + rng.normal(size=(n, 16))


def test_diversity_is_the_mean_distance_within_labels() -> None:
    x, y, labels = features(60, 0), features(40, 1), np.arange(60) % 4
    found = diversity(x, labels, y, labels[:40])
    each = [
        np.mean([np.linalg.norm(x[i] - x[j]) for i in range(60) for j in range(60) if i != j and i % 4 == j % 4 == n])
        for n in range(4)
    ]
    assert found.generated == pytest.approx(np.mean(each))
    assert found.labels == 4 and 0.5 < found.ratio < 2
    collapsed = diversity(x[labels], labels, y, labels[:40])
    assert collapsed.ratio < 1e-6


def test_only_labels_of_both_sets_count() -> None:
    found = diversity(features(6, 0), np.array([0, 0, 1, 1, 2, 3]), features(5, 1), np.array([0, 0, 1, 2, 2]))
    assert found.labels == 1
    with raises("too-few-images"):
        diversity(features(3, 0), np.arange(3), features(3, 1), np.arange(3))


def test_mean_distance_of_copies_is_zero() -> None:
    assert mean_distance(np.repeat(features(1, 0) + 1e3, 5, 0)) < 1e-6
    assert mean_distance(np.array([[0.0, 0], [3, 4]])) == pytest.approx(5)
