"""Wrong labels: they contradict the true one, come from labelled samples, and are drawn evenly."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core import rng
from shards.stream.order import Shuffled
from shards.stream.wrong_labels import LabelTable, contradicts, draw_partners, swap_attributes

LABELS = np.eye(4, dtype=np.float32)[[0, 1, 2, 3, 0, 1]]
KNOWN = np.ones((6, 1), bool)


def table(labels: object, known: object, *kinds: str, starts: tuple[int, ...] = (0,)) -> LabelTable:
    kinds = kinds or ("exclusive",) * len(starts)
    return LabelTable(np.array(labels, np.float32), np.array(known, bool), np.array(starts), kinds)


TABLE = table(LABELS, KNOWN)


@given(st.integers(0, 2**63 - 1), st.integers(0, 10**12))
def test_trap_a_wrong_label_is_never_the_true_one(seed: int, start: int) -> None:
    positions = np.arange(start, start + 32, dtype=np.int64)
    samples = Shuffled(rng.key(seed, "order"), len(LABELS))(positions)
    partners, found = draw_partners(seed, positions, samples, TABLE)
    assert found.all()
    assert (LABELS[partners] != LABELS[samples]).any(1).all()


def test_labels_contradict_only_in_attributes_known_in_both() -> None:
    labels = np.array([[1, 0, 1], [0, 1, 1]], np.float32)
    known, first_unknown = np.ones((2, 2), bool), np.array([[False, True], [True, True]])
    for mask, expected in ((known, [True, True]), (first_unknown, [False, False])):
        one = table(labels, mask, starts=(0, 2))
        assert contradicts(one, one.rows([1, 0])).tolist() == expected


def test_a_hard_wrong_label_differs_in_one_contradicted_attribute() -> None:
    """Attributes of 2, 1 and 2 entries; the labels contradict in the first two, and the third is unknown in one."""
    starts, n = (0, 2, 3), 4_000
    positions = np.arange(n, dtype=np.int64)
    true = table([[1, 0, 1, 1, 0]] * n, np.ones((n, 3)), starts=starts)
    other = table([[0, 1, 0, 0, 1]] * n, [[True, True, False]] * n, starts=starts)
    found = swap_attributes(3, positions, true, other)
    kinds, counts = np.unique(found, axis=0, return_counts=True)
    assert kinds.tolist() == [[0, 1, 1, 1, 0], [1, 0, 0, 1, 0]]
    assert abs(counts[0] - n / 2) < 4 * (n / 4) ** 0.5, "drawn evenly"
    assert contradicts(true, table(found, true.known, starts=starts)).all()
    some = swap_attributes(3, positions[7:9], true.rows([0, 1]), other.rows([0, 1]))
    assert np.array_equal(some, found[7:9]), "keyed by position alone"
    assert np.array_equal(swap_attributes(3, positions, true, true), true.labels), "nothing to swap"


@pytest.mark.parametrize("count", range(1, 40))
def test_about_a_third_of_many_contradictions_is_swapped(count: int) -> None:
    """Up to five, one; each attribute about as often as any other."""
    n = 3_000
    true, other = (
        table(np.full((n, count), value), np.ones((n, count)), starts=tuple(range(count))) for value in (0, 1)
    )
    swapped = swap_attributes(3, np.arange(n, dtype=np.int64), true, other)
    numbers = swapped.sum(1)
    if count <= 5:
        assert (numbers == 1).all()
    else:
        assert numbers.min() >= count // 5 and numbers.max() <= -(-count // 3)
    often = swapped.mean(0)
    assert np.abs(often / often.mean() - 1).max() < 0.35
    assert swapped[:, 0].sum() > 0 and (swapped.sum(1) < max(count, 2)).all()


@pytest.mark.parametrize(
    "labels", [table(LABELS[[0] * 6], KNOWN), table(LABELS, ~KNOWN)], ids=["one label", "unlabelled"]
)
def test_without_a_contradiction_there_is_no_wrong_label(labels: LabelTable) -> None:
    positions = np.arange(6, dtype=np.int64)
    partners, found = draw_partners(0, positions, positions, labels)
    assert not found.any()
    assert np.array_equal(partners, positions)


def test_wrong_labels_come_from_the_pool() -> None:
    """Among a thousand unlabelled images, drawing from all would hardly ever find a label."""
    labels, known = np.zeros((1006, LABELS.shape[1]), np.float32), np.zeros((1006, KNOWN.shape[1]), bool)
    labels[1000:], known[1000:] = LABELS, KNOWN
    every = table(labels, known)
    positions, pool = np.arange(600, dtype=np.int64), np.arange(1000, 1006)
    samples = pool[positions % 6]
    partners, found = draw_partners(0, positions, samples, every, pool)
    assert found.all() and partners.min() >= 1000
    assert contradicts(every.rows(samples), every.rows(partners)).all()


def test_wrong_labels_are_drawn_evenly() -> None:
    positions = np.arange(60_000, dtype=np.int64)
    samples = np.zeros(len(positions), np.int64)
    partners, _ = draw_partners(1, positions, samples, TABLE)
    counts = np.bincount(partners, minlength=6)
    assert counts[[0, 4]].sum() == 0  # both have the label of sample 0
    assert ((counts[[1, 2, 3, 5]] - 15_000) ** 2 / 15_000).sum() < 16.3  # 3 degrees of freedom, 0.1 %


def test_captions_contradict_by_their_angle() -> None:
    def pair(known: np.ndarray, *kinds: str) -> tuple[LabelTable, LabelTable]:
        one, other = [[1, 0, 5]] * 3, [[0.95, 0.3122, 5], [0.8, 0.6, 5], [1, 0, 4]]
        every = np.ones((3, 2), bool)
        return table(one, known, *kinds, starts=(0, 2)), table(other, every, *kinds, starts=(0, 2))

    known = np.ones((3, 2), bool)
    assert contradicts(*pair(known, "text", "vector")).tolist() == [False, True, True]
    assert contradicts(*pair(known, "vector", "vector")).tolist() == [True, True, True]
    assert not contradicts(*pair(~known, "text", "vector")).any()
