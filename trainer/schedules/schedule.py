"""Schedules of learning rates and weights: pure functions of the images seen, so no state is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("none", "cosine", "linear")


@dataclass(frozen=True)
class Schedule:
    """A linear warm-up from 0 to ``start``, which is held until ``since``, then a decay to ``end``.

    Attributes:
        start: value after the warm-up.
        end: value from ``over`` images on.
        shape: of the decay: "linear", "cosine" (half a period, Loshchilov & Hutter 2017, equation 5, without restarts),
            or "none", which stays at ``start``.
        over: images seen at which ``end`` is reached.
        warmup: images over which the value rises to ``start``.
        since: images seen at which the decay begins; at the earliest, after the warm-up.
    """

    start: float
    end: float = 0.0
    shape: str = "none"
    over: int = 0
    warmup: int = 0
    since: int = 0

    @property
    def varies(self) -> bool:
        """Whether the value ever differs from ``start``."""
        return self.shape != "none" or self.warmup > 0

    def __call__(self, images_seen: int) -> float:
        """Return the value in the step that ends at ``images_seen``."""
        if images_seen < self.warmup:
            return self.start * images_seen / self.warmup
        if self.shape == "none":
            return self.start
        since = max(self.since, self.warmup)
        progress = min(1.0, max(0, images_seen - since) / (self.over - since))
        if self.shape == "cosine":
            progress = (1 - math.cos(math.pi * progress)) / 2
        return self.start * (1 - progress) + self.end * progress
