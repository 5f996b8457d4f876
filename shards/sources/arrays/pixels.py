"""Images that are slices of an array: how their numbers are arranged, and encoding one of them."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from shards.sources.image_refs import file_stamp, read_range

CHANNELS = (1, 3, 4)  # grey, RGB, RGBA
_MIN_FLAT_SIDE = 8  # of images that are stored as rows of numbers


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where a file of plain bytes has images, and how the bytes of each are arranged.

    Attributes:
        path: the file.
        start: offset of the first image.
        step: bytes from one image to the next.
        shape: shape of the bytes of one image, in C order.
        axes: the axes of ``shape`` that are rows, columns and (if there are several) channels.
        gain: what each value is multiplied by.
        origin: changes when the array changes; "" if the file is the array's own.
    """

    path: Path
    start: int
    step: int
    shape: tuple[int, ...]
    axes: tuple[int, ...]
    gain: int = 1
    origin: str = ""


@dataclass(frozen=True, slots=True)
class ArrayImage:
    """One image of an array; all images of an array share ``pixels``."""

    pixels: Pixels
    index: int

    def stamp(self) -> str:
        """Return the array's stamp and the image's number."""
        return f"{self.pixels.origin or file_stamp(self.pixels.path)} {self.pixels.gain} {self.index}"

    def read(self) -> bytes:
        """Return the image as a PNG in RGB or RGBA; raise OSError if it cannot be read."""
        at = self.pixels
        data = read_range(at.path, at.start + self.index * at.step, math.prod(at.shape))
        pixels = np.frombuffer(data, np.uint8).reshape(at.shape).transpose(at.axes) * np.uint8(at.gain)
        grey = pixels.ndim == 2 or pixels.shape[2] == 1
        image = Image.fromarray(np.ascontiguousarray(pixels.reshape(pixels.shape[:2]) if grey else pixels))
        out = io.BytesIO()
        (image.convert("RGB") if grey else image).save(out, "PNG")
        return out.getvalue()


def arrangement(shape: tuple[int, ...]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Return (shape, axes) as in `Pixels` of one image of an array; None if the numbers cannot be an image.

    Rows of numbers are square grey images (784: 28 x 28), or three planes (3072: 3 x 32 x 32).
    """
    if len(shape) == 1:
        for planes in (1, 3):
            side = math.isqrt(shape[0] // planes)
            if side * side * planes == shape[0] and side >= _MIN_FLAT_SIDE:
                return ((side, side), (0, 1)) if planes == 1 else ((3, side, side), (1, 2, 0))
        return None
    if len(shape) == 2:
        return (shape, (0, 1)) if shape[1] not in CHANNELS and min(shape) > 0 else None
    if len(shape) == 3 and min(shape) > 0:
        if shape[2] in CHANNELS:
            return shape, (0, 1, 2)
        if shape[0] in CHANNELS:
            return shape, (1, 2, 0)
    return None
