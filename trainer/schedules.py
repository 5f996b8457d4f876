"""What a rate or a weight is worth after so many images: pure functions of the clock, so that none is saved."""

from __future__ import annotations

import math
from dataclasses import dataclass

SHAPES = ("none", "cosine", "linear")


@dataclass(frozen=True)
class Schedule:
    """A straight line up from 0 over the warm-up, then a way from ``start`` to ``end``.

    Attributes:
        start, end: the values after the warm-up, and from ``over`` on.
        shape: of the way: "linear", "cosine" (half a period, Loshchilov & Hutter 2017, equation 5, without restarts),
            or "none": it stays at ``start``.
        over: images seen at which ``end`` is reached.
        warmup: images over which the value rises to ``start``.
    """

    start: float
    end: float = 0.0
    shape: str = "none"
    over: int = 0
    warmup: int = 0

    @property
    def moves(self) -> bool:
        """Whether it is anything but ``start`` for ever."""
        return self.shape != "none" or self.warmup > 0

    def __call__(self, images_seen: int) -> float:
        """The value of a step that brings the clock to ``images_seen``."""
        if images_seen < self.warmup:
            return self.start * images_seen / self.warmup
        if self.shape == "none":
            return self.start
        way = min(1.0, (images_seen - self.warmup) / (self.over - self.warmup))
        if self.shape == "cosine":
            way = (1 - math.cos(math.pi * way)) / 2
        return self.start * (1 - way) + self.end * way
