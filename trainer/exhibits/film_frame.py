"""A frame of a film: an image with one line of text below it."""

from __future__ import annotations

from PIL import Image, ImageDraw, ImageFont

from trainer.generation.image_grid import drawable, wrap

_FONT_SIZE = 14
_STRIP = 24  # pixels below the image
_MARGIN = 8
_BACKGROUND, _INK = (255, 255, 255), (34, 34, 34)


def framed(image: Image.Image, caption: str, size: tuple[int, int] | None = None) -> Image.Image:
    """Return an RGB image with a caption below it, which is cut with "…" if it is too long.

    Args:
        image: an RGB image.
        caption: one line.
        size: width and height to which the image is padded with white (default: its own).
    """
    width, height = size or image.size
    frame = Image.new("RGB", (width, height + _STRIP), _BACKGROUND)
    frame.paste(image)
    font = ImageFont.load_default(_FONT_SIZE)
    for line in wrap(drawable(caption), font, width - 2 * _MARGIN, 1):
        ImageDraw.Draw(frame).text((_MARGIN, height + 2), line, fill=_INK, font=font)
    return frame
