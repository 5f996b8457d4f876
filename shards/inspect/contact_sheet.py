"""Contact sheets: rows of images, each row with a title."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin, UnidentifiedImageError

from shards.core.atomic_io import write_bytes
from shards.core.errors import UserError
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import from_pixels
from shards.dataset.transparency import on_checkerboard

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_CELL = 64  # pixels, approximately; smaller images are enlarged by an integer factor, larger ones reduced
_LARGEST = 128
_GAP, _MARGIN = 2, 12
_FONT, _HEAD = 14, 18  # pixels
_TITLE_WIDTH = 260  # pixels
_PAPER, _INK, _EMPTY = (255, 255, 255), (34, 34, 34), (225, 225, 225)
_KEYWORD, _MARK = "Description", "Contact sheet of "  # PNG text that identifies our sheets


def draw(name: str, heading: str, titles: Sequence[str], rows: Sequence[Sequence[np.ndarray | None]]) -> Image.Image:
    """Draw a contact sheet.

    Args:
        name: name of the dataset.
        heading: line at the top of the sheet.
        titles: one title per row.
        rows: images, uint8 (H, W, C), all of one shape; None for an image that cannot be decoded. Those with alpha
            are drawn on a checkerboard.

    Returns:
        An RGB image that `save` can write.
    """
    font, head = ImageFont.load_default(_FONT), ImageFont.load_default(_HEAD)
    shapes = [ImageShape.of_pixels(image) for row in rows for image in row if image is not None]
    shape = shapes[0] if shapes else ImageShape.of(_CELL)
    cell = shape.scaled(shape.size * max(1, _CELL // shape.size) if shape.size < _LARGEST else _LARGEST)
    shown = [_shortened(_drawable(title), font, _TITLE_WIDTH) for title in titles]
    left = 2 * _MARGIN + max((int(font.getlength(title)) for title in shown), default=0)
    top = 2 * _MARGIN + _HEAD
    columns = max((len(row) for row in rows), default=0)
    step = max(cell.height, _FONT + 4) + _GAP
    heading = _drawable(heading)
    width = max(left + columns * (cell.width + _GAP), _MARGIN + int(head.getlength(heading))) + _MARGIN
    sheet = Image.new("RGB", (width, top + len(rows) * step + _MARGIN), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, _MARGIN), heading, _INK, head)
    for number, (title, row) in enumerate(zip(shown, rows, strict=True)):
        y = top + number * step
        pen.text((_MARGIN, y + (cell.height - _FONT) // 2), title, _INK, font)
        for column, image in enumerate(row):
            sheet.paste(_tile(image, cell), (left + column * (cell.width + _GAP), y))
    sheet.info[_KEYWORD] = f"{_MARK}{name}: {'; '.join(titles)}"
    return sheet


def save(sheet: Image.Image, path: Path) -> None:
    """Write a sheet as PNG atomically; replace an existing contact sheet, but no other file.

    Raises:
        UserError: its folder is missing, or the path is another file.
        Failure: the file cannot be written.
    """
    check_path(path)
    text = PngImagePlugin.PngInfo()
    text.add_itxt(_KEYWORD, sheet.info[_KEYWORD])
    encoded = io.BytesIO()
    sheet.save(encoded, "PNG", pnginfo=text)
    write_bytes(path, encoded.getvalue())


def check_path(path: Path) -> None:
    """Check that a contact sheet can be written to a path.

    Raises:
        UserError: its folder is missing, or the path is another file.
    """
    if not path.parent.is_dir():
        raise UserError(
            "output-folder-missing", f"{path}: there is no folder {path.parent}; create it, or give another --sheet"
        )
    if path.exists() and not is_sheet(path):
        raise UserError("output-exists", f"{path} exists and is not a contact sheet; give another --sheet")


def is_sheet(path: Path) -> bool:
    """Return whether a file is a contact sheet that `save` wrote."""
    try:
        with Image.open(path, formats=["PNG"]) as image:
            image.load()
            return str(image.info.get(_KEYWORD, "")).startswith(_MARK)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
        return False


def _tile(image: np.ndarray | None, cell: ImageShape) -> Image.Image:
    size = cell.width, cell.height
    if image is None:
        tile = Image.new("RGB", size, _EMPTY)
        ImageDraw.Draw(tile).line((0, 0, *size), _INK)
        return tile
    tile = from_pixels(image)
    resampling = Image.Resampling.NEAREST if cell.width >= tile.width else Image.Resampling.LANCZOS
    scaled = tile if tile.size == size else tile.resize(size, resampling)
    return Image.fromarray(on_checkerboard(np.asarray(scaled).reshape(cell.pixels_shape)))


def _drawable(title: str) -> str:
    """Return a title in the characters of Pillow's built-in font, which renders alike on every machine."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", title) if not unicodedata.combining(c))
    return "".join(c if c.isascii() and c.isprintable() else "?" for c in plain)


def _shortened(title: str, font: Font, width: int) -> str:
    if font.getlength(title) <= width:
        return title
    while title and font.getlength(title + "...") > width:
        title = title[:-1]
    return title.rstrip() + "..."
