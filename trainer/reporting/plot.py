"""Describe a plot and lay it out: frame, scales and ticks. `svg` and `raster` draw it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from trainer.reporting.curves import Curve

# Okabe & Ito's palette, distinguishable for colour-blind readers; yellow, which is faint on white, comes last.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#b8a500")
WIDTH, HEIGHT = 460, 220  # pixels of a plot at scale 1
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 10, 40  # margins around the frame


@dataclass(frozen=True)
class Line:
    """One line of a plot.

    Attributes:
        label: what the line shows, such as a run's name; may be empty in a plot of one line.
        number: index of its colour; None for the page's own colour.
        x, y: at least one point.
        band: the unsmoothed curve, whose range is drawn behind the line.
    """

    label: str
    number: int | None
    x: Sequence[float]
    y: Sequence[float]
    band: Curve | None = None

    @property
    def colour(self) -> str:
        return COLOURS[(self.number or 0) % len(COLOURS)]


@dataclass(frozen=True)
class Plot:
    """One key over one clock.

    Attributes:
        key: what is plotted.
        clock: label of the x axis, such as "images seen".
        lines: at least one.
    """

    key: str
    clock: str
    lines: Sequence[Line]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the frame, in data coordinates."""
        xs = [x for line in self.lines for x in line.x]
        values = [y for line in self.lines for y in (line.band.mean if line.band else line.y)]
        low, high = self.extremes
        left, right = min(xs), max(xs)
        return left, right if right > left else left + 1, *framed(values, low, high)

    @property
    def extremes(self) -> tuple[float, float]:
        """The least and the greatest value, bands included."""
        low = min(min(line.band.low if line.band else line.y) for line in self.lines)
        high = max(max(line.band.high if line.band else line.y) for line in self.lines)
        return low, high

    def scales(self) -> tuple[Callable[[float], float], Callable[[float], float]]:
        """Return the maps from data to pixel coordinates, x and y; values beyond the frame are drawn at its edge."""
        left, right, bottom, top = self.bounds

        def across(value: float) -> float:
            return round(LEFT + (value - left) / (right - left) * (WIDTH - LEFT - RIGHT), 1)

        def down(value: float) -> float:
            kept = min(max(value, bottom), top)
            return round(HEIGHT - BOTTOM - (kept - bottom) / (top - bottom) * (HEIGHT - TOP - BOTTOM), 1)

        return across, down


def ticks(low: float, high: float, most: int) -> list[float]:
    """Return about ``most`` round numbers in [low, high], at most one more."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def framed(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """Return the y range to show: [low, high], cropped where a few outliers would flatten all other values."""
    ordered = sorted(values)
    near_low, near_high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    room = 2 * (near_high - near_low)
    if room > 0:
        low, high = max(low, near_low - room), min(high, near_high + room)
    if high <= low:
        spread = abs(high) / 2 or 0.5
        low, high = low - spread, high + spread
    return low, high
