"""Curves over images seen, bounded in memory however long the run is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from trainer.metric_names import CLOCK

_MOST_POINTS = 500  # per curve


@dataclass
class Curve:
    """One metric over images seen, in at most 500 points for any number of rows.

    Each point covers ``stride`` rows: their last x, and the mean, least and greatest value. When all points are used,
    neighbours are merged and the stride doubles.
    """

    x: list[float] = field(default_factory=list)
    mean: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    stride: int = 1
    not_finite: int = 0
    last: float = math.nan
    _open: list[tuple[float, float]] = field(default_factory=list)

    def add(self, x: float, value: float) -> None:
        """Add the value of one row; values that are not finite are counted and not drawn."""
        self.last = value
        if not math.isfinite(value):
            self.not_finite += 1
            return
        self._open.append((x, value))
        if len(self._open) == self.stride:
            self.flush()
            if len(self.x) >= _MOST_POINTS:
                self._halve()

    def flush(self) -> None:
        """Complete the last point."""
        if self._open:
            values = [value for _, value in self._open]
            self.x.append(self._open[-1][0])
            self.mean.append(math.fsum(values) / len(values))
            self.low.append(min(values))
            self.high.append(max(values))
            self._open.clear()

    def smooth(self) -> list[float]:
        """Return an exponential moving average of the means over about 5 % of the curve, unbiased at its start."""
        keep = 1 - 1 / max(1.0, len(self.mean) / 20)
        total = weight = 0.0
        out = []
        for value in self.mean:
            total, weight = keep * total + value, keep * weight + 1
            out.append(total / weight)
        return out

    def _halve(self) -> None:
        self.x = self.x[1::2]
        self.mean = [(a + b) / 2 for a, b in zip(self.mean[::2], self.mean[1::2], strict=True)]
        self.low = [min(pair) for pair in zip(self.low[::2], self.low[1::2], strict=True)]
        self.high = [max(pair) for pair in zip(self.high[::2], self.high[1::2], strict=True)]
        self.stride *= 2


def curves(rows: Iterable[Mapping[str, float]]) -> dict[str, Curve]:
    """Return the curve of every key in rows of metrics, in order of first appearance."""
    found: dict[str, Curve] = {}
    for row in rows:
        for key, value in row.items():
            if key != CLOCK:
                found.setdefault(key, Curve()).add(row[CLOCK], value)
    for curve in found.values():
        curve.flush()
    return found


def training_seconds(speed: Curve) -> float:
    """Return the training time in seconds, from the curve of the logged images per second."""
    steps = [after - before for before, after in zip([0.0, *speed.x], speed.x, strict=False)]
    return math.fsum(step / rate for step, rate in zip(steps, speed.mean, strict=True) if rate > 0)
