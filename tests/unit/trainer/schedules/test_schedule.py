"""Schedules: their first, last and intermediate values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.schedules.schedule import Schedule

COSINE = Schedule(2.0, 0.5, "cosine", over=300, warmup=100)
LINEAR = Schedule(2.0, 0.5, "linear", over=300, warmup=100)


def test_a_constant_schedule_returns_exactly_its_value() -> None:
    assert Schedule(0.1)(0) == Schedule(0.1)(10**12) == 0.1
    assert not Schedule(0.1).varies


@pytest.mark.parametrize("schedule", [COSINE, LINEAR])
def test_values_at_the_ends_of_warmup_and_decay(schedule: Schedule) -> None:
    assert schedule.varies
    assert [schedule(n) for n in (0, 25, 50, 100)] == [0, 0.5, 1, 2]
    assert schedule(200) == pytest.approx(1.25), "half way"
    assert schedule(300) == schedule(10**9) == 0.5


def test_linear_and_cosine_decay() -> None:
    assert LINEAR(150) == pytest.approx(2 - 1.5 / 4)
    assert COSINE(150) == pytest.approx(2 - 1.5 * (1 - 2**-0.5) / 2), "a cosine starts slowly"


def test_the_value_is_constant_after_a_warmup_alone() -> None:
    schedule = Schedule(2.0, warmup=100)
    assert schedule.varies and schedule(50) == 1 and schedule(100) == schedule(10**9) == 2


def test_a_value_is_held_until_its_decay_begins() -> None:
    schedule = Schedule(2.0, 0.5, "linear", over=300, warmup=100, since=200)
    assert [schedule(n) for n in (50, 100, 150, 200, 240, 300, 999)] == [1, 2, 2, 2, pytest.approx(1.4), 0.5, 0.5]
    assert Schedule(2.0, 0.5, "linear", over=300, warmup=100, since=50)(200) == LINEAR(200), "not within the warm-up"


@given(st.sampled_from(["cosine", "linear"]), st.floats(0, 10), st.floats(0, 10), st.integers(0, 2_000))
def test_values_are_monotone_and_between_both_ends(shape: str, start: float, end: float, images: int) -> None:
    schedule = Schedule(start, end, shape, over=1_000)
    low, high = sorted((start, end))
    now, later = schedule(images), schedule(images + 1)
    assert low - 1e-9 <= now <= high + 1e-9
    assert (later - now) * (end - start) >= -1e-9
