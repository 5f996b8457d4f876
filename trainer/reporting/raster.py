"""Curves of several runs in one frame, as SVG for a page or as a picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

from trainer.generation.image_grid import drawable
from trainer.reporting.curves import escape, framed, readable, short, ticks

# Okabe & Ito's colours, told apart by colour-blind readers too; yellow, which is faint on paper, comes last.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#7f7f7f", "#b8a500")
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 460, 220, 52, 12, 10, 40
_SCALE = 2  # a picture's pixels to the SVG's
_HEAD, _LINE = 26, 20  # rows of text in a picture, before scaling


class Line(NamedTuple):
    """One run's curve of a key; ``number`` is the run's, and decides its colour."""

    run: str
    number: int
    x: Sequence[float]
    y: Sequence[float]

    @property
    def colour(self) -> str:
        return COLOURS[self.number % len(COLOURS)]


@dataclass(frozen=True)
class Plot:
    """One key over one clock.

    Attributes:
        key: what is plotted.
        clock: what it is plotted over, as the axis is called.
        lines: at least one, each of at least one point.
    """

    key: str
    clock: str
    lines: Sequence[Line]

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """left, right, bottom, top of the frame."""
        xs = [x for line in self.lines for x in line.x]
        ys = [y for line in self.lines for y in line.y]
        left, right = min(xs), max(xs)
        return left, right if right > left else left + 1, *framed(ys, min(ys), max(ys))

    def places(self) -> tuple[Callable[[float], float], Callable[[float], float]]:
        """From values to places in the frame: across and down."""
        left, right, bottom, top = self.bounds

        def across(value: float) -> float:
            return round(_LEFT + (value - left) / (right - left) * (_WIDTH - _LEFT - _RIGHT), 1)

        def down(value: float) -> float:
            kept = min(max(value, bottom), top)
            return round(_HEIGHT - _BOTTOM - (kept - bottom) / (top - bottom) * (_HEIGHT - _TOP - _BOTTOM), 1)

        return across, down


def svg(plot: Plot, number: int) -> str:
    """The plot as a figure with its values for who cannot see it; ``number`` is its own on the page."""
    across, down = plot.places()
    left, right, bottom, top = plot.bounds
    marks = "".join(
        f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{down(y)}" y2="{down(y)}"/>'
        f'<text class="y" x="{_LEFT - 6}" y="{down(y)}">{readable(y)}</text>'
        for y in ticks(bottom, top, 4)
    )
    marks += "".join(
        f'<text class="x" x="{across(x)}" y="{_HEIGHT - _BOTTOM + 16}">{short(x)}</text>' for x in ticks(left, right, 5)
    )
    drawn = ""
    for line in plot.lines:
        points = " ".join(f"{across(x)},{down(y)}" for x, y in zip(line.x, line.y, strict=True))
        drawn += f'<polyline class="run" stroke="{line.colour}" points="{points}"/>'
        drawn += f'<circle fill="{line.colour}" cx="{across(line.x[-1])}" cy="{down(line.y[-1])}" r="3"/>'
    ends = "; ".join(f"{line.run} {readable(line.y[-1])} at {short(line.x[-1])}" for line in plot.lines)
    return (
        f"<figure><figcaption><span>{escape(plot.key)}</span></figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-labelledby="c{number}">'
        f'<title id="c{number}">{escape(f"{plot.key} over {plot.clock}: {ends}")}</title>{marks}{drawn}'
        f'<text class="x" x="{(_LEFT + _WIDTH - _RIGHT) // 2}" y="{_HEIGHT - 6}">{escape(plot.clock)}</text>'
        "</svg></figure>"
    )


def legend(runs: Sequence[str]) -> str:
    """Which colour is whose, as HTML."""
    marks = [
        f'<span><svg viewBox="0 0 12 12" aria-hidden="true"><circle fill="{COLOURS[i % len(COLOURS)]}" '
        f'cx="6" cy="6" r="5"/></svg> {escape(run)}</span>'
        for i, run in enumerate(runs)
    ]
    return f'<p class="legend">{" ".join(marks)}</p>'


def picture(plots: Sequence[Plot], runs: Sequence[str], columns: int) -> Image.Image:
    """Plots in rows, a legend above: an RGB picture in the order given."""
    rows = -(-len(plots) // columns)
    top = _LINE * len(runs) + 8
    image = Image.new("RGB", (columns * _WIDTH * _SCALE, (top + rows * (_HEAD + _HEIGHT)) * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    for number, run in enumerate(runs):
        y = number * _LINE + 14
        draw.ellipse(_box(16, y, 5), fill=COLOURS[number % len(COLOURS)])
        draw.text((28 * _SCALE, y * _SCALE), drawable(run), "black", ImageFont.load_default(14 * _SCALE), anchor="lm")
    for number, plot in enumerate(plots):
        row, column = divmod(number, columns)
        _draw(draw, plot, column * _WIDTH, top + row * (_HEAD + _HEIGHT) + _HEAD)
    return image


def _draw(draw: ImageDraw.ImageDraw, plot: Plot, x0: int, y0: int) -> None:
    """One plot, the corner of its frame at (x0, y0)."""
    across, down = plot.places()
    left, right, bottom, top = plot.bounds
    font, small = ImageFont.load_default(14 * _SCALE), ImageFont.load_default(11 * _SCALE)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x0 + x) * _SCALE, (y0 + y) * _SCALE

    draw.text(at(_LEFT, -12), drawable(plot.key), "black", font, anchor="lm")
    for y in ticks(bottom, top, 4):
        draw.line([at(_LEFT, down(y)), at(_WIDTH - _RIGHT, down(y))], "#e1e4ea", _SCALE)
        draw.text(at(_LEFT - 6, down(y)), readable(y), "#626a78", small, anchor="rm")
    for x in ticks(left, right, 5):
        draw.text(at(across(x), _HEIGHT - _BOTTOM + 12), short(x), "#626a78", small, anchor="mm")
    draw.text(at((_LEFT + _WIDTH - _RIGHT) / 2, _HEIGHT - 10), plot.clock, "#626a78", small, anchor="mm")
    for line in plot.lines:
        points = [at(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True)]
        draw.line(points, line.colour, 2 * _SCALE, joint="curve")
        x, y = across(line.x[-1]), down(line.y[-1])
        draw.ellipse(_box(x0 + x, y0 + y, 3), fill=line.colour)


def _box(x: float, y: float, radius: float) -> list[float]:
    return [(x - radius) * _SCALE, (y - radius) * _SCALE, (x + radius) * _SCALE, (y + radius) * _SCALE]
