"""Open image files safely: the formats that are read, and what damaged or hostile files are refused for."""

from __future__ import annotations

import contextlib
import functools
import io
import math
import warnings
from collections.abc import Iterator

import numpy as np
from PIL import Image, features

from shards.core.errors import UserError
from shards.dataset.image_shape import MODES

# Pillow's names; no formats that it passes to other programs, such as EPS.
READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
LARGEST = 1 << 16  # pixels per side; the product is limited by Pillow's check for decompression bombs

_PNG_DEPTH = 24  # where a PNG has the bits of a sample
_NPY = b"\x93NUMPY"
_NOT_IMAGES = {  # what downloads leave in place of images, in lower case
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"<!doctype html": "a web page, not an image",
    b"<html": "a web page, not an image",
}

# Pillow's warnings about damaged metadata are not of interest; `catch_warnings` is not thread-safe, so set it once.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(Exception):
    """An image that cannot be used; the message says why, in a few words."""


@contextlib.contextmanager
def guarded() -> Iterator[None]:
    """Turn any exception of Pillow's readers, which fail on damaged files in many ways, into `ImageError`."""
    try:
        yield
    except (ImageError, UserError):
        raise
    except Image.UnidentifiedImageError:
        raise ImageError("not a readable image") from None
    except Exception as error:
        raise ImageError(f"damaged ({_reason(error)})") from None


def opened(data: bytes) -> Image.Image:
    """Return an encoded image, opened but not decoded.

    Raises:
        ImageError: it is not an image of the formats that are read, or too large to open safely.
    """
    if data.startswith(_NPY):
        return _raw(data)
    if not data:
        raise ImageError("an empty file")
    for start, name in _NOT_IMAGES.items():
        if data[:200].lstrip().lower().startswith(start):
            raise ImageError(name)
    bomb = ImageError("refused: a decompression bomb, or too many pixels to open safely")
    with guarded():
        try:
            image = Image.open(io.BytesIO(data), formats=_formats(data))
        except Image.DecompressionBombError:
            raise bomb from None
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 1 << 62):  # Pillow only warns
        raise bomb
    if max(image.size) > LARGEST:
        raise ImageError(f"refused: {image.size[0]} x {image.size[1]} pixels")
    if image.format == "PNG" and "transparency" in image.info:
        image.info["transparency"] = _clear_colour(image, data[_PNG_DEPTH])
    return image


def _clear_colour(image: Image.Image, depth: int) -> object:
    """Return the colour of a PNG that is transparent, in the depth in which Pillow decodes its pixels.

    Pillow scales the pixels to 8 bits, but not this colour. Grey of 16 bits keeps its depth.
    """
    clear = image.info["transparency"]
    if image.mode == "L" and isinstance(clear, int) and depth in (2, 4):
        largest = 2**depth - 1
        return (clear & largest) * 255 // largest
    if image.mode == "RGB" and isinstance(clear, tuple) and depth == 16:
        return tuple(value >> 8 for value in clear)
    return clear


def _formats(data: bytes) -> tuple[str, ...]:
    """Return the formats that an image may have; raise ImageError if it needs a package that is not installed."""
    if data[4:8] != b"ftyp":
        return READ
    if b"avif" in data[8:32] or b"avis" in data[8:32]:
        if not features.check("avif"):
            raise ImageError("AVIF needs Pillow 11.3 or newer")
        return ("AVIF",)
    _register_heic()
    return ("HEIF",)


@functools.cache
def _register_heic() -> None:
    try:
        import pi_heif
    except ImportError:
        raise ImageError('HEIC needs a package: pip install "cgan-trainer[heic]"') from None
    pi_heif.register_heif_opener(thumbnails=False)


def _raw(data: bytes) -> Image.Image:
    """Return the image in a .npy file."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # numpy fails on damaged headers in many ways
        raise ImageError(f"damaged ({_reason(error)})") from None
    image_like = len(shape) == 3 and shape[2] in MODES and 0 < min(shape) <= max(shape) <= LARGEST
    if dtype != np.uint8 or fortran or not image_like:
        raise ImageError("not an image: the array must be uint8 (height, width, 3), or with 1 or 4 channels")
    if len(data) - file.tell() != math.prod(shape) or shape[0] * shape[1] > (Image.MAX_IMAGE_PIXELS or 1 << 30):
        raise ImageError("damaged (its header and its length do not agree)")
    image = Image.frombytes(MODES[shape[2]], (shape[1], shape[0]), data[file.tell() :])
    image.format = "NPY"
    return image


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
