"""Schedules: where they start, where they end, and what lies between."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.schedules import Schedule

COSINE = Schedule(2.0, 0.5, "cosine", over=300, warmup=100)
LINEAR = Schedule(2.0, 0.5, "linear", over=300, warmup=100)


def test_the_constant_one_is_the_number_itself() -> None:
    assert Schedule(0.1)(0) == Schedule(0.1)(10**12) == 0.1
    assert not Schedule(0.1).varies


@pytest.mark.parametrize("schedule", [COSINE, LINEAR])
def test_the_corners(schedule: Schedule) -> None:
    assert schedule.varies
    assert [schedule(n) for n in (0, 25, 50, 100)] == [0, 0.5, 1, 2]
    assert schedule(200) == pytest.approx(1.25), "half way"
    assert schedule(300) == schedule(10**9) == 0.5


def test_the_shapes() -> None:
    assert LINEAR(150) == pytest.approx(2 - 1.5 / 4)
    assert COSINE(150) == pytest.approx(2 - 1.5 * (1 - 2**-0.5) / 2), "a cosine leaves slowly"


def test_a_warm_up_alone_stays_where_it_arrived() -> None:
    schedule = Schedule(2.0, warmup=100)
    assert schedule.varies and schedule(50) == 1 and schedule(100) == schedule(10**9) == 2


@given(st.sampled_from(["cosine", "linear"]), st.floats(0, 10), st.floats(0, 10), st.integers(0, 2_000))
def test_between_its_ends_and_monotone(shape: str, start: float, end: float, images: int) -> None:
    schedule = Schedule(start, end, shape, over=1_000)
    low, high = sorted((start, end))
    here, later = schedule(images), schedule(images + 1)
    assert low - 1e-9 <= here <= high + 1e-9
    assert (later - here) * (end - start) >= -1e-9
