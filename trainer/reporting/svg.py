"""Draw plots as SVG figures that need no script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from trainer.reporting.html_page import escape
from trainer.reporting.number_format import format_count, format_value
from trainer.reporting.plot import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, WIDTH, Line, Plot, ticks


def chart(plot: Plot, number: int) -> str:
    """Return a plot as an HTML figure; its title gives the values to screen readers.

    Args:
        number: index of the figure on its page, for the ids of its elements.
    """
    across, down = plot.scales()
    left, right, bottom, top = plot.bounds

    def points(xs: Iterable[float], ys: Iterable[float]) -> str:
        return " ".join(f"{across(x):.1f},{down(y):.1f}" for x, y in zip(xs, ys, strict=True))

    marks = "".join(
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{down(y)}" y2="{down(y)}"/>'
        f'<text class="y" x="{LEFT - 6}" y="{down(y)}">{format_value(y)}</text>'
        for y in ticks(bottom, top, 4)
    )
    marks += "".join(
        f'<text class="x" x="{across(x)}" y="{HEIGHT - BOTTOM + 16}">{format_count(x)}</text>'
        for x in ticks(left, right, 5)
    )
    for line in plot.lines:
        if line.band:
            band = points(line.band.x, line.band.high) + " "
            band += points(reversed(line.band.x), reversed(line.band.low))
            marks += f'<polygon class="band" points="{band}"/>'
        themed = line.number is None
        stroke, fill = ("", ' class="end"') if themed else (f' stroke="{line.colour}"', f' fill="{line.colour}"')
        marks += f'<polyline class="{"mean" if themed else "run"}"{stroke} points="{points(line.x, line.y)}"/>'
        marks += f'<circle{fill} cx="{across(line.x[-1])}" cy="{down(line.y[-1])}" r="3"/>'
    value = f" <b>{format_value(plot.lines[0].y[-1])}</b>" if len(plot.lines) == 1 else ""
    return (
        f"<figure><figcaption><span>{escape(plot.key)}</span>{value}</figcaption>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-labelledby="c{number}">'
        f'<title id="c{number}">{escape(_describe(plot))}</title>{marks}'
        f'<text class="x" x="{(LEFT + WIDTH - RIGHT) // 2}" y="{HEIGHT - 6}">{escape(plot.clock)}</text>'
        "</svg></figure>"
    )


def legend(labels: Sequence[str]) -> str:
    """Return the colours of lines 0, 1, … with their labels, as HTML."""
    marks = [
        f'<span><svg viewBox="0 0 12 12" aria-hidden="true"><circle fill="{COLOURS[i % len(COLOURS)]}" '
        f'cx="6" cy="6" r="5"/></svg> {escape(label)}</span>'
        for i, label in enumerate(labels)
    ]
    return f'<p class="legend">{" ".join(marks)}</p>'


def _describe(plot: Plot) -> str:
    _, _, bottom, top = plot.bounds
    low, high = plot.extremes
    cropped = ". Values beyond the frame are drawn at its edge." if low < bottom or high > top else ""
    return f"{plot.key} over {plot.clock}: {'; '.join(map(_ends, plot.lines))}{cropped}"


def _ends(line: Line) -> str:
    text = f"{format_value(line.y[-1])} at {format_count(line.x[-1])}, from {format_value(line.y[0])}"
    return f"{line.label} {text}" if line.label else text
