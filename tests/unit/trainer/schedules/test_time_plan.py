"""A run that ends on time, by a clock that the test turns."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.errors import raises
from support.training import plain_values
from trainer import config
from trainer.run.saved_state import SavedState
from trainer.schedules.time_plan import TimePlan
from trainer.schedules.timekeeper import Timekeeper

BATCH = 32


class Machine:
    """A machine whose steps take ``step_seconds(now)``."""

    def __init__(self, step_seconds: Callable[[float], float]) -> None:
        self.now, self._step_seconds = 1000.0, step_seconds

    def train(self, seconds: float, plan: TimePlan, images: int, stop_at: float = 1e18) -> tuple[list[TimePlan], int]:
        """Train until the plan ends or the clock reaches ``stop_at``; return all plans in turn and the images seen."""
        keeper = Timekeeper(seconds, plan, images, self.now, lambda: self.now)
        plans = [plan]
        while images < plans[-1].total and self.now < stop_at:
            if (plan := keeper.review(plans[-1], images, BATCH)) != plans[-1]:
                plans.append(plan)
            self.now += self._step_seconds(self.now - 1000)
            images += BATCH
        return [*plans, keeper.stamped(plans[-1])], images


MACHINES: dict[str, Callable[[float], float]] = {
    "steady": lambda t: 0.1,
    "a neighbour comes": lambda t: 0.1 if t < 200 else 0.2,
    "a neighbour leaves": lambda t: 0.3 if t < 350 else 0.1,
    "a neighbour comes and goes": lambda t: 0.1 if int(t) // 40 % 2 else 0.25,
    "a slow first step": lambda t: 8.0 if t == 0 else 0.1,
    "steps of seconds": lambda t: 7.0,
    "steps of a minute": lambda t: 60.0,
}


@pytest.mark.parametrize("name", MACHINES)
def test_a_run_ends_on_time(name: str) -> None:
    machine = Machine(MACHINES[name])
    plans, images = machine.train(600, TimePlan(), 0)
    assert machine.now - 1000 == pytest.approx(600, rel=0.02)
    assert images == plans[-1].total


def test_reviews_are_few() -> None:
    assert len(Machine(MACHINES["a neighbour comes and goes"]).train(36_000, TimePlan(), 0)[0]) < 25


@pytest.mark.parametrize("name", MACHINES)
def test_schedules_rise_without_jumps_to_their_end(name: str) -> None:
    plans, images = Machine(MACHINES[name]).train(600, TimePlan(), 0)
    measured = [plan for plan in plans if plan.is_measured]
    for before, after in itertools.pairwise(measured):
        assert before.progress_at(after.images) == pytest.approx(after.progress_at(after.images))
        assert after.progress >= before.progress
    first = measured[0]
    assert first.schedule_images(first.images) == pytest.approx(first.images), "warm-up goes on at the same images"
    assert measured[-1].progress_at(images) == 1
    assert measured[-1].schedule_images(images) == first.scale


def test_a_resumed_run_counts_the_time_that_it_used() -> None:
    machine = Machine(MACHINES["steady"])
    plans, images = machine.train(600, TimePlan(), 0, stop_at=1300)
    assert plans[-1].seconds == pytest.approx(300, abs=0.2)
    machine.now = 5000  # while it was stopped, time did not count
    resumed, end = machine.train(600, plans[-1], images)
    assert machine.now - 5000 == pytest.approx(300, abs=6)
    assert resumed[0].total == plans[-1].total, "until its next review it follows the plan that it finds"
    assert end == resumed[-1].total


def test_a_finished_run_with_more_time_is_planned_like_a_new_one() -> None:
    machine = Machine(MACHINES["steady"])
    plans, images = machine.train(600, TimePlan(), 0)
    more, end = machine.train(1200, TimePlan(seconds=plans[-1].seconds), images)
    assert machine.now - 1000 == pytest.approx(1200, rel=0.02)
    first = next(plan for plan in more if plan.is_measured)
    assert first.progress == first.images / first.total == pytest.approx(0.5, abs=0.05)
    assert more[-1].progress_at(end) == 1


def test_a_run_without_time_left_trains_one_more_batch() -> None:
    plan = TimePlan(total=640_000, scale=640_000, images=0, progress=0.0, review_at=320, seconds=599.99)
    machine = Machine(MACHINES["steady"])
    _, images = machine.train(600, plan, 64)
    assert images == 320 + BATCH


# ---------------------------------------------------------------- options


def test_minutes_replace_the_length_of_a_preset_and_images_replace_minutes(tmp_path: Path) -> None:
    file = tmp_path / "options.yaml"
    file.write_text("decay: cosine\ndecay_images: 5000\ntotal_images: 5000\n")
    timed = config.load(["--config", str(file), "--minutes", "3"]).schedule
    assert (timed.minutes, timed.decay, timed.decay_images) == (3, "cosine", None)
    file.write_text("minutes: 3\n")
    counted = config.load(["--config", str(file), "--total-images", "640"]).schedule
    assert (counted.minutes, counted.total_images) == (None, 640)


def test_two_lengths_are_one_sentence() -> None:
    with raises("option-conflict", "--minutes", "--total-images"):
        config.load(["--minutes", "3", "--total-images", "640"])
    with raises("option-conflict", "--minutes", "--decay-images"):
        config.load(["--minutes", "3", "--decay", "cosine", "--decay-images", "640"])
    with raises("invalid-value", "--minutes"):
        config.load(["--minutes", "0"])


@pytest.mark.parametrize(
    "damage",
    [{"total": 100}, {"total": -1}, {"scale": "1"}, {"progress": 1.5}, {"seconds": -1}, {"review_at": None}],
)
def test_a_plan_that_is_read_back_is_checked(damage: dict[str, object]) -> None:
    plan = TimePlan(total=640, scale=640, images=128, progress=0.2, review_at=256, seconds=3.5)
    values = plain_values(320) | {"plan": dataclasses.asdict(plan)}
    assert SavedState.from_json(json.loads(json.dumps(values))).plan == plan
    values["plan"] |= damage
    with pytest.raises(ValueError, match=r"plan|total|scale|review"):
        SavedState.from_json(json.loads(json.dumps(values)))
