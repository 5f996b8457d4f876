"""How many images fit into the time of a run (--minutes), planned while it trains.

The clock of a run stays the images seen. A plan says at how many images the run ends and how far its schedules are at
each: `TimePlan.progress` goes from 0 to 1 along straight pieces. The first steps of a run measure its speed, and make
the first plan. At each review, which is due at a number of images that the plan names, the speed since the last one
makes another; progress goes on from where it was, so schedules have no jumps. Everything that follows from time is in
the plan, which checkpoints hold: a resumed run follows it to its next review.
"""

from __future__ import annotations

from dataclasses import dataclass

UNPLANNED = 1 << 53  # images of a run whose speed is not known yet
_REVIEW_SHARE = 0.25  # of the images left, until the next review
_LAST_SHARE = 0.01  # of the time; a plan with less left is final


@dataclass(frozen=True)
class TimePlan:
    """The plan of a run, from its last review on.

    Attributes:
        total: images at which the run ends; `UNPLANNED` while its speed is measured.
        scale: the total of the first plan, at which schedules are complete; they are functions of `schedule_images`.
        images: images seen at the last review.
        progress: of the schedules at the last review, 0 to 1.
        review_at: images seen at which the next review is due; `total` if there is none.
        seconds: used by the run until the last checkpoint, by all processes that trained it in turn.
    """

    total: int = UNPLANNED
    scale: int = UNPLANNED
    images: int = 0
    progress: float = 0.0
    review_at: int = 0
    seconds: float = 0.0

    @property
    def is_measured(self) -> bool:
        """Whether the speed of the run is known."""
        return self.total != UNPLANNED

    def progress_at(self, images: int) -> float:
        """Return the progress of the schedules at ``images`` seen, from 0 to 1."""
        if not self.is_measured:
            return 0.0
        return min(1.0, self.progress + (1 - self.progress) * (images - self.images) / (self.total - self.images))

    def schedule_images(self, images: int) -> float:
        """Return the images seen at which a run of ``scale`` images would be as far."""
        return self.progress_at(images) * self.scale if self.is_measured else images

    def reviewed(self, images: int, batch: int, seconds_left: float, speed: float, seconds: float) -> TimePlan:
        """Return the plan from ``images`` on; at least one more batch is trained.

        Args:
            images: seen so far.
            batch: images of a step.
            seconds_left: until the run should end.
            speed: images per second, above 0.
            seconds: the time of the whole run.
        """
        batches = max(1, round(seconds_left * speed / batch))
        total = images + batches * batch
        scale = self.scale if self.is_measured else total
        progress = self.progress_at(images) if self.is_measured else images / total
        is_last = seconds_left < _LAST_SHARE * seconds or batches < 2 / _REVIEW_SHARE
        review_at = total if is_last else images + round(batches * _REVIEW_SHARE) * batch
        return TimePlan(total, scale, images, progress, review_at, self.seconds)
