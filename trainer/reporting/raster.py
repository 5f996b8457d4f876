"""Draw plots as an image."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from trainer.generation.image_grid import drawable
from trainer.reporting.number_format import format_count, format_value
from trainer.reporting.plot import BOTTOM, COLOURS, HEIGHT, LEFT, RIGHT, WIDTH, Plot, ticks

_SCALE = 2  # pixels of the image per pixel of a plot
_HEAD, _LINE = 26, 20  # heights of a plot's title and of a line of the legend, before scaling


def draw_plots(plots: Sequence[Plot], labels: Sequence[str], columns: int) -> Image.Image:
    """Draw plots in rows below a legend of ``labels``: an RGB image."""
    rows = -(-len(plots) // columns)
    top = _LINE * len(labels) + 8
    image = Image.new("RGB", (columns * WIDTH * _SCALE, (top + rows * (_HEAD + HEIGHT)) * _SCALE), "white")
    draw = ImageDraw.Draw(image)
    for number, label in enumerate(labels):
        y = number * _LINE + 14
        draw.ellipse(_box(16, y, 5), fill=COLOURS[number % len(COLOURS)])
        draw.text((28 * _SCALE, y * _SCALE), drawable(label), "black", ImageFont.load_default(14 * _SCALE), anchor="lm")
    for number, plot in enumerate(plots):
        row, column = divmod(number, columns)
        _draw(draw, plot, column * WIDTH, top + row * (_HEAD + HEIGHT) + _HEAD)
    return image


def _draw(draw: ImageDraw.ImageDraw, plot: Plot, x0: int, y0: int) -> None:
    """Draw one plot with the corner of its frame at (x0, y0)."""
    across, down = plot.scales()
    left, right, bottom, top = plot.bounds
    font, small = ImageFont.load_default(14 * _SCALE), ImageFont.load_default(11 * _SCALE)

    def at(x: float, y: float) -> tuple[float, float]:
        return (x0 + x) * _SCALE, (y0 + y) * _SCALE

    draw.text(at(LEFT, -12), drawable(plot.key), "black", font, anchor="lm")
    for y in ticks(bottom, top, 4):
        draw.line([at(LEFT, down(y)), at(WIDTH - RIGHT, down(y))], "#e1e4ea", _SCALE)
        draw.text(at(LEFT - 6, down(y)), format_value(y), "#626a78", small, anchor="rm")
    for x in ticks(left, right, 5):
        draw.text(at(across(x), HEIGHT - BOTTOM + 12), format_count(x), "#626a78", small, anchor="mm")
    draw.text(at((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10), plot.clock, "#626a78", small, anchor="mm")
    for line in plot.lines:
        points = [at(across(x), down(y)) for x, y in zip(line.x, line.y, strict=True)]
        draw.line(points, line.colour, 2 * _SCALE, joint="curve")
        x, y = across(line.x[-1]), down(line.y[-1])
        draw.ellipse(_box(x0 + x, y0 + y, 3), fill=line.colour)


def _box(x: float, y: float, radius: float) -> list[float]:
    return [(x - radius) * _SCALE, (y - radius) * _SCALE, (x + radius) * _SCALE, (y + radius) * _SCALE]
