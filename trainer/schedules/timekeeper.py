"""The clock of a run of --minutes: how fast it trains, and so how many images fit into the time that is left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from trainer.schedules.time_plan import TimePlan

PROBE_STEPS = 8  # at least, to measure a speed, unless the first ones take longer than _HURRY
_PROBE_SHARE = 0.02  # of the time
_HURRY = 0.25  # of the time, after which one step must do for the first plan


class Timekeeper:
    """Measures the time and the speed of a run, on the process that decides.

    Args:
        seconds: time of the run.
        plan: from which the run starts or resumes.
        images: seen so far.
        started: when this process started to train, by ``clock``.
        clock: returns seconds.
    """

    def __init__(self, seconds: float, plan: TimePlan, images: int, started: float, clock: Callable[[], float]) -> None:
        self.seconds = seconds
        self._clock, self._origin = clock, started - plan.seconds
        self._images, self._since, self._has_started = images, clock(), False

    def used(self) -> float:
        """Return the seconds that the run has used, those before it was resumed included."""
        return self._clock() - self._origin

    def review(self, plan: TimePlan, images: int, batch: int) -> TimePlan:
        """Return the plan to follow from ``images`` on: another one if a review is due.

        Called before each step until the speed is measured, and when a review is due.
        """
        if not plan.is_measured and not self._has_started:
            self._has_started = images > self._images
            if self._has_started:  # the first step allocates and compiles, so it is not measured
                self._images, self._since = images, self._clock()
        elapsed = self._clock() - self._since
        due = images >= plan.review_at if plan.is_measured else elapsed >= _PROBE_SHARE * self.seconds
        steps = PROBE_STEPS if plan.is_measured or self.used() < _HURRY * self.seconds else 1
        if not due or images - self._images < steps * batch or elapsed <= 0:
            return plan
        speed = (images - self._images) / elapsed
        self._images, self._since = images, self._clock()
        return plan.reviewed(images, batch, max(0.0, self.seconds - self.used()), speed, self.seconds)

    def stamped(self, plan: TimePlan) -> TimePlan:
        """Return the plan as a checkpoint holds it, with the time used."""
        return dataclasses.replace(plan, seconds=self.used())
