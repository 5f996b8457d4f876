"""Arrange images in a grid with titles, and save it as a PNG with a caption."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from shards.core.atomic_io import explain_disk_errors, write_bytes
from shards.dataset.image_shape import MODES
from shards.dataset.images import from_pixels
from shards.dataset.transparency import on_checkerboard

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

COLUMNS = 8  # images per row of a grid of one phrase, unless told otherwise

_CELL = 96  # pixels; smaller images are enlarged to about this size
_GAP = 2
_MARGIN = 8
_FONT_SIZE = 14
_TITLE_WIDTH = 200  # pixels; the widest column of row titles
_BACKGROUND, _INK = (255, 255, 255), (34, 34, 34)
_DESCRIPTION = "Description"  # the PNG standard's keyword for a caption


def grid(
    images: Any,
    columns: int,
    row_titles: Sequence[str] = (),
    column_titles: Sequence[str] = (),
    scale: int | None = None,
) -> Image.Image:
    """Arrange images in a grid, with titles to the left of rows and above columns.

    Long titles are wrapped and then truncated with "…". The font is Pillow's own, so that a grid looks the same on
    every machine.

    Below transparent images is a checkerboard.

    Args:
        images: uint8 (N, C, H, W), grey, RGB or RGBA, a numpy array or a CPU tensor, in row-major order.
        columns: number of columns.
        row_titles: at most one per row.
        column_titles: at most one per column.
        scale: integer enlargement (default: 3 for 32-pixel images, 1 for 96-pixel images; the longer side counts).

    Returns:
        An RGB image whose titles are stored as a caption, which `save` writes.

    Raises:
        ValueError: the array has another shape or dtype, or there are more titles than rows or columns.
    """
    array = _checked(images, columns)
    count, (tall, wide) = len(array), array.shape[2:]
    rows = math.ceil(count / columns)
    if len(row_titles) > rows or len(column_titles) > columns:
        raise ValueError(f"{len(row_titles)} row and {len(column_titles)} column titles for {rows} x {columns} cells")
    scale = scale or max(1, round(_CELL / max(tall, wide)))
    tall, wide = tall * scale, wide * scale

    font = ImageFont.load_default(_FONT_SIZE)
    line = _line_height(font)
    left = [wrap(drawable(title), font, _TITLE_WIDTH, max(1, tall // line)) for title in row_titles]
    above = [wrap(drawable(title), font, wide, 3) for title in column_titles]
    left_width = _widest(left, font) + _MARGIN if left else 0
    above_height = max(map(len, above)) * line + _MARGIN // 2 if above else 0
    # If cells are lower than a line of text, the rows move apart instead of the titles overlapping.
    row_height = max(tall, line if left else 0) + _GAP

    width = 2 * _MARGIN + left_width + columns * (wide + _GAP) - _GAP
    height = 2 * _MARGIN + above_height + rows * row_height - _GAP
    sheet = Image.new("RGB", (width, height), _BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    x0, y0 = _MARGIN + left_width, _MARGIN + above_height

    for column, lines in enumerate(above):
        x, y = x0 + column * (wide + _GAP), y0 - _MARGIN // 2 - len(lines) * line
        _draw_lines(draw, lines, font, x, y, wide)
    for row, lines in enumerate(left):
        y = y0 + row * row_height + (row_height - _GAP - len(lines) * line) // 2
        _draw_lines(draw, lines, font, _MARGIN, y)
    for number, image in enumerate(array):
        row, column = divmod(number, columns)
        pixels = image.transpose(1, 2, 0).repeat(scale, 0).repeat(scale, 1)
        sheet.paste(from_pixels(on_checkerboard(pixels)), (x0 + column * (wide + _GAP), y0 + row * row_height))

    sheet.info[_DESCRIPTION] = describe(row_titles, column_titles)
    return sheet


def to_pillow(image: np.ndarray) -> Image.Image:
    """Return an image uint8 (C, H, W) as Pillow's, in grey, RGB or RGBA."""
    return from_pixels(np.ascontiguousarray(image.transpose(1, 2, 0)))


def describe(row_titles: Sequence[str], column_titles: Sequence[str] = ()) -> str:
    """Return the titles as one caption: "rows: blue hair; red hair. columns: noise 1; noise 2"."""
    parts = [("rows", row_titles), ("columns", column_titles)]
    return ". ".join(f"{name}: {'; '.join(titles)}" for name, titles in parts if any(titles))


def save(image: Image.Image, path: Path, captions: Sequence[str] = ()) -> None:
    """Write a PNG atomically, with its caption in the "Description" text.

    Args:
        image: an image, from `grid` or elsewhere.
        path: ``….png``; its folder is created if it does not exist.
        captions: titles of the rows (default: the titles that `grid` drew).

    Raises:
        Failure: the file cannot be written.
    """
    encoded = encode(image, captions)
    with explain_disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, encoded)


def encode(image: Image.Image, captions: Sequence[str] = ()) -> bytes:
    """Return the PNG that `save` writes."""
    text = PngImagePlugin.PngInfo()
    if caption := describe(captions) or image.info.get(_DESCRIPTION, ""):
        text.add_itxt(_DESCRIPTION, caption)
    encoded = io.BytesIO()
    image.save(encoded, "PNG", pnginfo=text, optimize=True)
    return encoded.getvalue()


def encode_single(image: np.ndarray) -> bytes:
    """Return a single image, uint8 (C, H, W), as a PNG in its own size and without a caption."""
    encoded = io.BytesIO()
    to_pillow(image).save(encoded, "PNG")
    return encoded.getvalue()


def drawable(title: str) -> str:
    """Return ``title`` in the characters of Pillow's own font: "é" becomes "e", other characters "?".

    This affects drawn titles only; captions keep all characters.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else " " if c.isspace() else "?" for c in plain)


def wrap(title: str, font: Font, width: int, most: int) -> list[str]:
    """Return ``title`` in at most ``most`` lines of at most ``width`` pixels, truncated with "…"."""
    words = title.split()
    lines: list[str] = []
    while words and len(lines) < most:
        taken = 1
        while taken < len(words) and font.getlength(" ".join(words[: taken + 1])) <= width:
            taken += 1
        lines.append(" ".join(words[:taken]))
        words = words[taken:]
    if words:
        lines[-1] += " " + " ".join(words)
    return [_cut(line, font, width) for line in lines]


def _cut(line: str, font: Font, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    # The width grows with the number of characters, so a binary search finds the longest prefix that fits.
    fits, too_long = 0, len(line)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if font.getlength(line[:middle].rstrip() + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return line[:fits].rstrip() + "…"


def _checked(images: Any, columns: int) -> np.ndarray:
    array = np.asarray(images)
    if array.dtype != np.uint8 or array.ndim != 4 or array.shape[1] not in MODES:
        raise ValueError(f"a grid takes (N, C, H, W) uint8, with 1, 3 or 4 channels, not {array.shape} {array.dtype}")
    if not array.size or columns < 1:
        raise ValueError(f"a grid of {len(array)} images in {columns} columns is empty")
    return array


def _line_height(font: Font) -> int:
    top, bottom = font.getbbox("Äg")[1::2]
    return math.ceil(bottom - min(top, 0)) + 1


def _widest(blocks: Sequence[Sequence[str]], font: Font) -> int:
    return math.ceil(max((font.getlength(line) for lines in blocks for line in lines), default=0))


def _draw_lines(
    draw: ImageDraw.ImageDraw, lines: Sequence[str], font: Font, x: int, y: int, centred: int | None = None
) -> None:
    for number, line in enumerate(lines):
        shift = 0 if centred is None else (centred - font.getlength(line)) / 2
        draw.text((x + shift, y + number * _line_height(font)), line, fill=_INK, font=font)
