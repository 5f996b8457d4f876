"""Plot metrics of runs over images seen as SVG: one panel per metric, one line per variant, shaded range over seeds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from questions.figures import OTHERWISE, RIGHT, VARIETY, Figures, Point, Runs, attribute_of, common, keys_of, over_seeds
from trainer.reporting.html_page import escape
from trainer.reporting.number_format import format_count
from trainer.reporting.plot import ticks

_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#8c6d00", "#56b4e9")  # Okabe & Ito: most eyes tell them apart
_WIDE, _HIGH, _LEFT, _RIGHT, _ABOVE, _BELOW = 380, 230, 44, 14, 26, 36  # a panel and its margins, in pixels
_LINE = 18  # of the legend


def plot(title: str, variants: Mapping[str, Runs], own: Figures) -> str:
    """Plot all metrics of up to six variants.

    Args:
        variants: the runs of each, at least one of one, by its title.
        own: the judge's accuracy on held-out real images, by attribute: a dotted line.

    Returns:
        SVG, without scripts. Figures of what was asked in other sentences are dashed lines.
    """
    keys = [key for key in keys_of(variants) if not key.startswith(OTHERWISE)]
    last = max(common(runs.values())[-1] for runs in variants.values())
    panels = [
        f'<g transform="translate({number % 2 * _WIDE},{number // 2 * _HIGH})">{_panel(key, variants, own, last)}</g>'
        for number, key in enumerate(keys)
    ]
    under = -(-len(keys) // 2) * _HIGH + _LINE
    legend = [
        f'<g transform="translate({_LEFT},{under + number * _LINE})">'
        f'<line x2="22" stroke="{colour}" stroke-width="2.5"/><text x="30" y="4">{escape(name)}</text></g>'
        for number, (name, colour) in enumerate(zip(variants, _COLOURS, strict=False))
    ]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {2 * _WIDE} {under + len(legend) * _LINE}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#222"><title>{escape(title)}</title>'
        f'<rect width="100%" height="100%" fill="#fff"/>{"".join(panels)}{"".join(legend)}</svg>\n'
    )


def _panel(key: str, variants: Mapping[str, Runs], own: Figures, last: int) -> str:
    """Plot one metric of all variants."""
    scale = 1 if key == VARIETY else 100
    lines = [_points(runs, key, scale) for runs in variants.values()]
    dashed = [_points(runs, key.replace(RIGHT, OTHERWISE, 1), scale) for runs in variants.values()]
    top = max([scale, *(point.high for points in lines for _, point in points)])
    frame = _Frame(last, top)
    parts = [f'<text x="{_LEFT}" y="16" font-weight="600">{escape(_caption(key))}</text>', *_axes(frame)]
    parts.append(_across(frame.y(own[attribute_of(key)] * 100 if key != VARIETY else 1), "#222", "2 3"))
    for points, others, colour in zip(lines, dashed, _COLOURS, strict=False):
        band = [(seen, point.low) for seen, point in points] + [(seen, point.high) for seen, point in points[::-1]]
        parts.append(f'<polygon points="{frame.path(band)}" fill="{colour}" opacity="0.13"/>')
        parts.append(_median(frame, points, colour, ""))
        parts += [_median(frame, others, colour, ' stroke-dasharray="5 4"')] if key != VARIETY and others else []
    return "".join(parts)


class _Frame(NamedTuple):
    """Axis limits of a panel, from 0."""

    right: float
    top: float

    def x(self, value: float) -> str:
        return f"{_LEFT + value / self.right * (_WIDE - _LEFT - _RIGHT):.1f}"

    def y(self, value: float) -> str:
        return f"{_HIGH - _BELOW - value / self.top * (_HIGH - _ABOVE - _BELOW):.1f}"

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        return " ".join(f"{self.x(x)},{self.y(y)}" for x, y in points)


def _points(runs: Runs, key: str, scale: float) -> list[tuple[int, Point]]:
    """Return (images seen, metric) at the checkpoints where all seeds have it."""
    there = [seen for seen in common(runs.values()) if all(key in run[seen] for run in runs.values())]
    return [(seen, over_seeds(runs, seen, key, scale)) for seen in there]


def _median(frame: _Frame, points: Sequence[tuple[int, Point]], colour: str, style: str) -> str:
    path = frame.path([(seen, point.median) for seen, point in points])
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{style}/>'


def _axes(frame: _Frame) -> Iterator[str]:
    for value in ticks(0, frame.top, 4):
        yield _across(frame.y(value), "#ddd")
        yield f'<text x="{_LEFT - 6}" y="{frame.y(value)}" dy="4" text-anchor="end">{value:g}</text>'
    for value in ticks(0, frame.right, 5):
        yield f'<text x="{frame.x(value)}" y="{_HIGH - _BELOW + 16}" text-anchor="middle">{format_count(value)}</text>'
    yield f'<text x="{_WIDE - _RIGHT}" y="{_HIGH - 6}" text-anchor="end">images seen</text>'


def _across(y: str, colour: str, dashes: str = "none") -> str:
    ends = f'x1="{_LEFT}" x2="{_WIDE - _RIGHT}" y1="{y}" y2="{y}"'
    return f'<line {ends} stroke="{colour}" stroke-dasharray="{dashes}"/>'


def _caption(key: str) -> str:
    return "variety within a label (real images: 1)" if key == VARIETY else f"{attribute_of(key)}: right, %"
