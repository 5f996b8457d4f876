"""The order of the endless stream: exactly once an epoch, keyed, uniform, O(1)."""

from __future__ import annotations

import tracemalloc
from collections import Counter
from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from shards import keyed, order

sizes = st.integers(1, 3_000)
seeds = st.integers(0, 2**63 - 1)


def epoch(seed: int, n: int, number: int) -> np.ndarray:
    return order.sample_at(seed, n, np.arange(number * n, (number + 1) * n, dtype=np.int64))


@given(seeds, sizes, st.integers(0, 10**9))
def test_every_epoch_holds_each_sample_once(seed: int, n: int, number: int) -> None:
    assert np.array_equal(np.sort(epoch(seed, n, number)), np.arange(n))


@given(seeds, sizes, st.integers(0, 10**6), st.integers(1, 64))
def test_a_position_does_not_depend_on_what_was_asked_before(seed: int, n: int, start: int, count: int) -> None:
    positions = np.arange(start, start + count, dtype=np.int64)
    together = order.sample_at(seed, n, positions)
    alone = np.concatenate([order.sample_at(seed, n, positions[i : i + 1]) for i in range(count)])
    assert np.array_equal(together, alone)


def test_small_permutations_are_uniform() -> None:
    """Chi-square over all 24 orders of 4 samples: 23 degrees of freedom, 49.7 at 0.1 %."""
    draws = 24_000
    keys = np.repeat(np.arange(draws, dtype=np.int64), 4)
    seen = Counter(map(tuple, order.permute(keys, 4, np.tile(np.arange(4), draws)).reshape(-1, 4).tolist()))
    expected = draws / 24
    assert set(seen) == set(permutations(range(4)))
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 49.7


def test_pairs_are_uniform() -> None:
    """Where two neighbours of an epoch stand: chi-square over ordered pairs of 12 samples (131 degrees of freedom)."""
    n, draws = 12, 20_000
    starts = n * np.arange(draws, dtype=np.int64)
    seen = Counter(zip(order.sample_at(7, n, starts).tolist(), order.sample_at(7, n, starts + 1).tolist(), strict=True))
    expected = draws / (n * (n - 1))
    assert len(seen) == n * (n - 1)
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 185  # 0.1 %


def test_epochs_share_no_structure() -> None:
    first, second = epoch(0, 1_000, 0), epoch(0, 1_000, 1)
    assert (first == second).sum() < 10  # 1 expected by chance
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_a_billion_samples_cost_nothing() -> None:
    tracemalloc.start()
    drawn = order.sample_at(3, 10**9, np.arange(10**12, 10**12 + 64, dtype=np.int64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(drawn.tolist())) == 64
    assert peak < 1_000_000


def test_golden_order() -> None:
    """The order is part of the resume contract: a release that changes it would change every run."""
    assert order.sample_at(0, 10, np.arange(10, dtype=np.int64)).tolist() == GOLDEN


GOLDEN = [7, 3, 9, 8, 6, 1, 5, 0, 4, 2]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(0, 2**31))
def test_numpy_and_torch_draw_the_same_bits(base: int, position: int, channel: int) -> None:
    ours = keyed.bits(base, np.array([position]), np.array([channel]))
    theirs = keyed.bits(base, torch.tensor([position]), torch.tensor([channel]))
    assert ours.tolist() == theirs.tolist()
    assert 0 <= ours[0] < 2**32


def test_mix_is_a_bijection_with_avalanche() -> None:
    words = np.arange(1 << 16, dtype=np.int64)
    assert len(np.unique(keyed.mix(words))) == len(words)
    flips = [bin(int(a ^ b)).count("1") for a, b in zip(keyed.mix(words), keyed.mix(words ^ 1), strict=True)]
    assert 15.5 < float(np.mean(flips)) < 16.5


def test_bits_are_uniform_and_independent_of_neighbours() -> None:
    drawn = keyed.bits(keyed.key(0, "test"), np.arange(1 << 18), 5) / 2**32
    counts = np.histogram(drawn, bins=256, range=(0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 340  # 255 degrees of freedom, 0.02 %
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01


def test_below_stays_below() -> None:
    draws = np.array([0, 2**31, 2**32 - 1])
    assert keyed.below(10, draws).tolist() == [0, 5, 9]


# ---------------------------------------------------------------- wrong labels

LABELS = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
KNOWN = np.ones((6, 1), bool)
STARTS = np.array([0])


@given(seeds, st.integers(0, 10**12))
def test_a_wrong_label_is_never_the_right_one(seed: int, start: int) -> None:
    positions = np.arange(start, start + 32, dtype=np.int64)
    samples = order.sample_at(seed, len(LABELS), positions)
    partners, found = order.partner_at(seed, positions, samples, LABELS, KNOWN, STARTS)
    assert found.all()
    assert (LABELS[partners] != LABELS[samples]).any(1).all()


def test_wrong_labels_contradict_only_where_both_are_known() -> None:
    label = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    starts = np.array([0, 2])
    both, first_unknown = np.ones((2, 2), bool), np.array([[False, True], [True, True]])
    swapped = label[::-1]
    assert order.contradicts(label, both, swapped, both[::-1], starts).tolist() == [True, True]
    assert order.contradicts(label, first_unknown, swapped, first_unknown[::-1], starts).tolist() == [False, False]


@pytest.mark.parametrize(
    ("labels", "known"), [(LABELS[[0] * 6], KNOWN), (LABELS, ~KNOWN)], ids=["one label", "unlabelled"]
)
def test_without_a_contradiction_there_is_no_wrong_label(labels: np.ndarray, known: np.ndarray) -> None:
    positions = np.arange(6, dtype=np.int64)
    partners, found = order.partner_at(0, positions, positions, labels, known, STARTS)
    assert not found.any()
    assert np.array_equal(partners, positions)


def test_wrong_labels_are_drawn_evenly() -> None:
    positions = np.arange(60_000, dtype=np.int64)
    samples = np.zeros(len(positions), np.int64)
    partners, _ = order.partner_at(1, positions, samples, LABELS, KNOWN, STARTS)
    counts = np.bincount(partners, minlength=6)
    assert counts[[0, 4]].sum() == 0  # both carry sample 0's own label
    assert ((counts[[1, 2, 3, 5]] - 15_000) ** 2 / 15_000).sum() < 16.3  # 3 degrees of freedom, 0.1 %
