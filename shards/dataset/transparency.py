"""Images with alpha: one colour for what is transparent, resizing without fringes, and how they are shown.

Alpha is straight (not premultiplied), as in PNG. A pixel whose alpha is 0 has no colour, whatever a file says: it is
stored as black, so that images that look the same are the same, and a network has nothing to learn there.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

_LIGHT, _DARK = 255, 204  # of a checkerboard, as in image editors


def hide_colours(pixels: np.ndarray) -> None:
    """Make the transparent pixels of uint8 (..., 4) black, in place."""
    pixels[pixels[..., 3] == 0] = 0


def has_hidden_colours(image: Image.Image) -> bool:
    """Return whether transparent pixels of an RGBA image are not black."""
    pixels = np.asarray(image)
    return bool(pixels[pixels[..., 3] == 0].any())


def is_opaque(image: Image.Image) -> bool:
    """Return whether an RGBA image has no transparency at all."""
    return image.getchannel("A").getextrema() == (255, 255)


def resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """Return the box of an RGBA image, resized with an antialiased Lanczos filter.

    Colours are weighted by their alpha (premultiplied) in floating point: those of transparent pixels have no effect,
    and one flat colour stays the same at every alpha. Opaque images are resized as RGB ones are.

    Args:
        size: width and height of the result.
        box: left, top, right and bottom in the image.
    """
    lanczos = Image.Resampling.LANCZOS
    if is_opaque(image):
        resized = image.convert("RGB").resize(size, lanczos, box)
        resized.putalpha(255)
        return resized

    def small(plane: np.ndarray) -> np.ndarray:
        return np.asarray(Image.fromarray(plane).resize(size, lanczos, box))

    weight = np.asarray(image.getchannel("A")).astype(np.float32) / 255
    # One plane at a time, since floating point takes much memory.
    planes = np.stack([small(np.asarray(image.getchannel(name)) * weight) for name in "RGB"], 2)
    weight = small(weight)[..., None]
    colours = np.divide(planes, weight, out=np.zeros_like(planes), where=weight > 0)
    pixels = np.concatenate([colours, 255 * weight], axis=2).round().clip(0, 255).astype(np.uint8)
    hide_colours(pixels)
    return Image.fromarray(pixels)


def on_checkerboard(pixels: np.ndarray, square: int = 8) -> np.ndarray:
    """Return images as people see them: those with alpha on a checkerboard of light and dark grey.

    Args:
        pixels: uint8 (..., H, W, C) with C = 1, 3 or 4.
        square: pixels of a square of the board.

    Returns:
        uint8 (..., H, W, 3).
    """
    if pixels.shape[-1] == 1:
        return np.repeat(pixels, 3, axis=-1)
    if pixels.shape[-1] == 3:
        return pixels
    height, width = pixels.shape[-3:-1]
    odd = (np.arange(height)[:, None] // square + np.arange(width) // square) % 2
    board = np.where(odd, _DARK, _LIGHT)[..., None]
    colour, alpha = pixels[..., :3].astype(np.int32), pixels[..., 3:].astype(np.int32)
    return ((colour * alpha + board * (255 - alpha) + 127) // 255).astype(np.uint8)
