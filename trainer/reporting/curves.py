"""Curves over images seen: bounded in memory however long the run is, drawn as SVG that needs no script."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from trainer.metric_names import CLOCK

_MOST_POINTS = 500  # a curve


@dataclass
class Curve:
    """One key over images seen, in at most 500 points however many rows there are.

    Each point covers ``stride`` rows: where it lies, and the mean, least and greatest value there. When the points
    are full, neighbours are merged and the stride doubles.
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
        """Take one row's value; values that are not finite are counted and not drawn."""
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
        """Close the point that is being filled."""
        if self._open:
            values = [value for _, value in self._open]
            self.x.append(self._open[-1][0])
            self.mean.append(math.fsum(values) / len(values))
            self.low.append(min(values))
            self.high.append(max(values))
            self._open.clear()

    def smooth(self) -> list[float]:
        """The means under a moving average that reaches over about a twentieth of the curve; unbiased at its start."""
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
    """The curve of every key in log rows, in the order of first appearance."""
    found: dict[str, Curve] = {}
    for row in rows:
        for key, value in row.items():
            if key != CLOCK:
                found.setdefault(key, Curve()).add(row[CLOCK], value)
    for curve in found.values():
        curve.flush()
    return found


def short(value: float) -> str:
    """A count as people read it: 950, 12.3k, 1.5M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size * 0.9995:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most about ``most`` round numbers that lie in [low, high]."""
    if not high > low:
        return [low]
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [number * step for number in range(first, math.floor(high / step + 1e-9) + 1)]


def escape(value: object) -> str:
    """Anything, safe in HTML text and in quoted attributes; control characters become "�"."""
    plain = re.sub(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "�", str(value))
    return html.escape(plain, quote=True)


_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 220, 52, 12, 10, 40


def chart(key: str, curve: Curve, number: int) -> str:
    """One curve as SVG: a band from the least to the greatest value, and the smoothed mean."""
    smooth = curve.smooth()
    left, right = curve.x[0], max(curve.x[-1], curve.x[0] + 1)
    bottom, top = framed(curve.mean, min(curve.low), max(curve.high))

    def across(value: float) -> str:
        return f"{_LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT):.1f}"

    def down(value: float) -> str:
        kept = min(max(value, bottom), top)
        return f"{_HEIGHT - _BOTTOM - (kept - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM):.1f}"

    def points(values: Iterable[float], xs: Iterable[float]) -> str:
        return " ".join(f"{across(x)},{down(y)}" for x, y in zip(xs, values, strict=True))

    band = points(curve.high, curve.x) + " " + points(reversed(curve.low), reversed(curve.x))
    lines = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down(y)}" y2="{down(y)}"/>'
        f'<text class="y" x="{_LEFT - 6}" y="{down(y)}">{readable(y)}</text>'
        for y in ticks(bottom, top, 4)
    )
    lines += "".join(
        f'<text class="x" x="{across(x)}" y="{_HEIGHT - _BOTTOM + 16}">{short(x)}</text>' for x in ticks(left, right, 5)
    )
    title = f"{key}: {readable(smooth[-1])} at {short(curve.x[-1])} images seen, from {readable(smooth[0])}"
    beyond = (
        " Values beyond the frame are drawn at its edge." if min(curve.low) < bottom or max(curve.high) > top else ""
    )
    return (
        f"<figure><figcaption><span>{escape(key)}</span> <b>{readable(smooth[-1])}</b></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="c{number}">'
        f'<title id="c{number}">{escape(title + "." + beyond)}</title>{lines}'
        f'<polygon class="band" points="{band}"/><polyline class="mean" points="{points(smooth, curve.x)}"/>'
        f'<circle class="end" cx="{across(curve.x[-1])}" cy="{down(smooth[-1])}" r="3"/>'
        f'<text class="x" x="{(_LEFT + _WIDTH - _RIGHT) // 2}" y="{_HEIGHT - 6}">images seen</text></svg></figure>'
    )


def framed(values: Sequence[float], low: float, high: float) -> tuple[float, float]:
    """The range to frame: from low to high, unless a few outliers among the values would press the rest flat."""
    ordered = sorted(values)
    near_low, near_high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    room = 2 * (near_high - near_low)
    if room > 0:
        low, high = max(low, near_low - room), min(high, near_high + room)
    if high <= low:
        spread = abs(high) / 2 or 0.5
        low, high = low - spread, high + spread
    return low, high


def readable(value: float) -> str:
    """A value in few characters: 1.31, 0.0021, 12.3k, 3.1e-07."""
    return short(value) if abs(value) >= 1e4 else f"{value + 0.0:.4g}".replace("e-0", "e-")
