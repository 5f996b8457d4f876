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

from shards.core import rng
from shards.core.permutation import permute
from shards.stream import order

sizes = st.integers(1, 3_000)
seeds = st.integers(0, 2**63 - 1)


def sample_at(seed: int, n: int, positions: np.ndarray) -> np.ndarray:
    return order.Shuffled(rng.key(seed, "order"), n)(positions)


def epoch(seed: int, n: int, number: int) -> np.ndarray:
    return sample_at(seed, n, np.arange(number * n, (number + 1) * n, dtype=np.int64))


@given(seeds, sizes, st.integers(0, 10**9))
def test_every_epoch_holds_each_sample_once(seed: int, n: int, number: int) -> None:
    assert np.array_equal(np.sort(epoch(seed, n, number)), np.arange(n))


@given(seeds, sizes, st.integers(0, 10**6), st.integers(1, 64))
def test_a_position_does_not_depend_on_what_was_asked_before(seed: int, n: int, start: int, count: int) -> None:
    positions = np.arange(start, start + count, dtype=np.int64)
    together = sample_at(seed, n, positions)
    alone = np.concatenate([sample_at(seed, n, positions[i : i + 1]) for i in range(count)])
    assert np.array_equal(together, alone)


def test_small_permutations_are_uniform() -> None:
    """Chi-square over all 24 orders of 4 samples: 23 degrees of freedom, 49.7 at 0.1 %."""
    draws = 24_000
    keys = np.repeat(np.arange(draws, dtype=np.int64), 4)
    seen = Counter(map(tuple, permute(keys, 4, np.tile(np.arange(4), draws)).reshape(-1, 4).tolist()))
    expected = draws / 24
    assert set(seen) == set(permutations(range(4)))
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 49.7


def test_pairs_are_uniform() -> None:
    """Where two neighbours of an epoch stand: chi-square over ordered pairs of 12 samples (131 degrees of freedom)."""
    n, draws = 12, 20_000
    starts = n * np.arange(draws, dtype=np.int64)
    seen = Counter(zip(sample_at(7, n, starts).tolist(), sample_at(7, n, starts + 1).tolist(), strict=True))
    expected = draws / (n * (n - 1))
    assert len(seen) == n * (n - 1)
    assert sum((count - expected) ** 2 / expected for count in seen.values()) < 185  # 0.1 %


def test_trap_epochs_share_no_structure() -> None:
    first, second = epoch(0, 1_000, 0), epoch(0, 1_000, 1)
    assert (first == second).sum() < 10  # 1 expected by chance
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15


def test_a_billion_samples_cost_nothing() -> None:
    tracemalloc.start()
    drawn = sample_at(3, 10**9, np.arange(10**12, 10**12 + 64, dtype=np.int64))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(drawn.tolist())) == 64
    assert peak < 1_000_000


def test_golden_order() -> None:
    """The order is part of the resume contract: a release that changes it would change every run."""
    assert sample_at(0, 10, np.arange(10, dtype=np.int64)).tolist() == GOLDEN


GOLDEN = [7, 3, 9, 8, 6, 1, 5, 0, 4, 2]


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**62), st.integers(0, 2**31))
def test_numpy_and_torch_draw_the_same_bits(base: int, position: int, channel: int) -> None:
    ours = rng.bits(base, np.array([position]), np.array([channel]))
    theirs = rng.bits(base, torch.tensor([position]), torch.tensor([channel]))
    assert ours.tolist() == theirs.tolist()
    assert 0 <= ours[0] < 2**32


def test_mix_is_a_bijection_with_avalanche() -> None:
    words = np.arange(1 << 16, dtype=np.int64)
    assert len(np.unique(rng.mix(words))) == len(words)
    flips = [bin(int(a ^ b)).count("1") for a, b in zip(rng.mix(words), rng.mix(words ^ 1), strict=True)]
    assert 15.5 < float(np.mean(flips)) < 16.5


def test_bits_are_uniform_and_independent_of_neighbours() -> None:
    drawn = rng.bits(rng.key(0, "test"), np.arange(1 << 18), 5) / 2**32
    counts = np.histogram(drawn, bins=256, range=(0, 1))[0]
    assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 340  # 255 degrees of freedom, 0.02 %
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.01


def test_below_stays_below() -> None:
    draws = np.array([0, 2**31, 2**32 - 1])
    assert rng.below(10, draws).tolist() == [0, 5, 9]


# ---------------------------------------------------------------- windowed


def windowed(seed: int, counts: list[int], window: int, ids: np.ndarray | None = None) -> order.Windowed:
    bounds = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return order.Windowed(seed, bounds if ids is None else order.bounds_among(bounds, ids), window, ids)


def positions(start: int, count: int) -> np.ndarray:
    return np.arange(start, start + count, dtype=np.int64)


shard_counts = st.lists(st.integers(0, 40), min_size=1, max_size=25).filter(any)
keys = st.integers(0, 2**32 - 1)


@given(keys, shard_counts, st.integers(1, 30), st.integers(0, 10**9))
def test_a_windowed_epoch_holds_each_sample_once(key: int, counts: list[int], window: int, number: int) -> None:
    n = sum(counts)
    assert np.array_equal(np.sort(windowed(key, counts, window)(positions(number * n, n))), np.arange(n))


@given(keys, shard_counts, st.integers(1, 30), st.data())
def test_windows_of_a_subset_hold_each_of_it_once(
    key: int, counts: list[int], window: int, data: st.DataObject
) -> None:
    some = data.draw(st.sets(st.integers(0, sum(counts) - 1), min_size=1))
    ids = np.array(sorted(some), np.int64)
    drawn = windowed(key, counts, window, ids)
    assert drawn.epoch_length() == len(ids)
    assert np.array_equal(np.sort(drawn(positions(3 * len(ids), len(ids)))), ids)
    used = np.repeat(np.arange(len(counts)), counts)
    for place in range(len(ids)):
        there = positions(5 * len(ids) + place, 1)
        assert used[drawn(there)[0]] in drawn.shards_in_use(there)


@given(keys, shard_counts, st.integers(1, 30), st.integers(0, 10**6))
def test_a_windowed_place_does_not_depend_on_what_was_asked_before(
    key: int, counts: list[int], window: int, start: int
) -> None:
    drawn = windowed(key, counts, window)
    alone = [int(windowed(key, counts, window)(positions(start + i, 1))[0]) for i in range(20)]
    assert drawn(positions(start, 20)).tolist() == alone
    assert drawn(positions(start, 20)[::-1]).tolist() == alone[::-1]


def test_few_shards_are_in_use_at_a_time() -> None:
    counts, window = [10] * 40, 4
    drawn = windowed(1, counts, window)
    for number in range(3):
        shards = drawn(positions(number * 400, 400)) // 10
        for start in range(0, 400, 40):
            assert len(set(shards[start : start + 40].tolist())) == window
    here, after = drawn(positions(0, 40)) // 10, drawn(positions(40, 40)) // 10
    assert drawn.shards_in_use(positions(0, 8))[:4] != drawn.shards_in_use(positions(0, 8))[4:]
    assert set(drawn.shards_in_use(positions(0, 8))[:4]) == set(here.tolist())
    assert set(drawn.shards_in_use(positions(0, 8))[4:]) == set(after.tolist())
    last = drawn(positions(400, 40)) // 10  # after an epoch's last window comes the next epoch's first
    assert set(drawn.shards_in_use(positions(399, 1))) == set((drawn(positions(360, 40)) // 10).tolist()) | set(
        last.tolist()
    )


def test_windowed_places_and_pairs_are_uniform() -> None:
    """Chi-square over where samples stand, and over which two neighbours share a window, of 12 shards of one sample."""
    epochs = 2_000
    drawn = windowed(5, [1] * 12, 3)(positions(0, 12 * epochs)).reshape(epochs, 12)
    expected = epochs / 12
    for place in (0, 5, 11):  # 11 degrees of freedom, 31.3 at 0.1 %
        assert ((np.bincount(drawn[:, place], minlength=12) - expected) ** 2 / expected).sum() < 31.3
    pairs = np.bincount(drawn[:, 3] * 12 + drawn[:, 4], minlength=144)
    expected = epochs / 132
    assert pairs[:: 12 + 1].sum() == 0
    off_diagonal = np.delete(pairs, np.arange(0, 144, 13))
    assert ((off_diagonal - expected) ** 2 / expected).sum() < 185  # 131 degrees of freedom, 0.1 %


def test_windowed_epochs_share_no_structure() -> None:
    drawn = windowed(0, [20] * 50, 5)
    first, second = drawn(positions(0, 1_000)), drawn(positions(1_000, 1_000))
    assert (first == second).sum() < 10
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.15
    assert abs(np.corrcoef(drawn(positions(0, 100)), drawn(positions(1_000, 100)))[0, 1]) < 0.4


@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=50), keys)
def test_sizes_of_their_own_permute_as_one_size_does(sizes: list[int], key: int) -> None:
    index = np.array([n // 2 for n in sizes], np.int64)
    together = permute(key, np.array(sizes, np.int64), index)
    assert together.tolist() == [int(permute(key, n, index[i : i + 1])[0]) for i, n in enumerate(sizes)]


# ---------------------------------------------------------------- mixed


@given(keys, st.lists(st.tuples(st.integers(1, 7), st.integers(1, 40)), min_size=1, max_size=5), st.integers(0, 10**6))
def test_every_cycle_has_each_parts_share_and_every_epoch_each_sample_once(
    key: int, parts: list[tuple[int, int]], cycle: int
) -> None:
    weights, starts = tuple(w for w, _ in parts), np.cumsum([0] + [n for _, n in parts])
    orders = tuple(order.Shuffled(key + i, n, np.arange(n) + starts[i]) for i, (_, n) in enumerate(parts))
    mixed = order.Mixed(key, weights, orders)
    total = sum(weights)
    drawn = mixed(positions(cycle * total, total))
    assert np.array_equal(np.histogram(drawn, bins=starts)[0], weights)
    assert mixed.epoch_length() == total * max(-(-n // w) for w, n in parts)
    assert set(mixed(positions(0, mixed.epoch_length())).tolist()) == set(range(starts[-1]))
    for (weight, n), low in zip(parts, starts, strict=False):
        stream = mixed(positions(0, total * n))  # n cycles are as many epochs of a part as it has places in a cycle
        own = stream[(stream >= low) & (stream < low + n)] - low
        assert np.array_equal(np.bincount(own, minlength=n), np.full(n, weight))
    assert sum(fraction for _, fraction in mixed.components()) == pytest.approx(1)


def test_mixtures_nest() -> None:
    inner = order.Mixed(1, (1, 1), (order.Shuffled(1, 90), order.Shuffled(2, 10, np.arange(90, 100))))
    outer = order.Mixed(3, (6, 2), (inner, order.Shuffled(4, 50, np.arange(100, 150))))
    drawn = outer(positions(8 * 1_000, 8 * 250)).reshape(-1, 8)
    assert ((drawn >= 100).sum(axis=1) == 2).all()
    assert ((drawn >= 90) & (drawn < 100)).sum() == 750
    assert outer.epoch_length() == 8 * 30  # 180 images of the inner one at 6 a cycle
    assert [round(fraction, 4) for _, fraction in outer.components()] == [0.375, 0.375, 0.25]


def test_places_of_a_part_are_scattered() -> None:
    """Where in a cycle of four the one place is: chi-square, 3 degrees of freedom."""
    mixed = order.Mixed(9, (3, 1), (order.Shuffled(1, 30), order.Shuffled(2, 1, np.array([30]))))
    places = np.nonzero(mixed(positions(0, 40_000)).reshape(-1, 4) == 30)[1]
    assert ((np.bincount(places) - 2_500) ** 2 / 2_500).sum() < 16.3


@given(seeds, st.integers(0, 10**12), st.integers(0, 900), st.integers(1, 100))
def test_replacements_come_from_the_same_shard_first(seed: int, position: int, start: int, length: int) -> None:
    shard = range(start, start + length)
    drawn = order.replacement_candidates(seed, position, shard, 1_000)
    assert len(drawn) == 32 and drawn.min() >= 0 and drawn.max() < 1_000
    assert set(drawn[:16].tolist()) <= set(shard)
    assert np.array_equal(drawn, order.replacement_candidates(seed, position, shard, 1_000))
