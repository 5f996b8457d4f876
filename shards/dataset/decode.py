"""Encoded picture -> pixels, as fast as it goes: what the stream does for every sample."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from shards.dataset.dataset import Dataset

_JPEG = b"\xff\xd8"
_PACKED = ("JPEG", "PNG", "WEBP")  # Pillow's names


def decode_into(data: bytes, out: np.ndarray) -> None:
    """Decode one packed picture where it is to lie.

    simplejpeg takes half of Pillow's time at 96 px for the same bits; Pillow does what is no JPEG, or an odd one.

    Args:
        data: a JPEG, PNG or WebP file.
        out: uint8 (S, S, 3), contiguous, S the side that the data set promises; undefined after an error.

    Raises:
        ValueError: it cannot be decoded, or has another size.
    """
    if data.startswith(_JPEG):
        try:
            if simplejpeg.decode_jpeg(data, "RGB", fastdct=False, fastupsample=False, buffer=out).shape == out.shape:
                return
        except ValueError:
            pass  # a CMYK or otherwise unusual JPEG, or one that is larger than it should be
    try:
        with Image.open(io.BytesIO(data), formats=_PACKED) as image:
            if image.size == (out.shape[1], out.shape[0]):
                out[:] = np.asarray(image.convert("RGB"))
                return
            width, height = image.size
    except UnidentifiedImageError:  # whose own words name an address in memory
        raise ValueError("the picture cannot be decoded: nothing that looks like one") from None
    except Exception as error:  # Pillow's many readers fail on damaged files in as many ways
        raise ValueError(f"the picture cannot be decoded: {error}") from None
    raise ValueError(f"the picture is {width}x{height}, not {out.shape[1]}x{out.shape[0]}")


def fit_into(data: bytes, out: np.ndarray, fit: str, background: str) -> None:
    """As `decode_into`, for a picture as others left it: of any kind and size, turned upright, made square, resized.

    Args:
        fit, background: how, see `pictures.pixels`.

    Raises:
        ValueError: it cannot be decoded.
    """
    from shards.dataset.images import PictureError, pixels

    try:
        out[:] = pixels(data, out.shape[0], fit, background)
    except PictureError as error:
        raise ValueError(f"the picture is {error}") from None


def read_pixels(dataset: Dataset, sample: int, out: np.ndarray) -> None:
    """Put the pixels of one sample into ``out``, uint8 (S, S, 3), however the data set holds them.

    Raises:
        ValueError: it cannot be decoded.
        Failure: it cannot be read, or fetched.
    """
    form = dataset.format(sample)
    if form == "raw":
        dataset.read_into(sample, out.data.cast("B"))
    elif form == "other":
        fit_into(dataset.read(sample), out, dataset.fit, dataset.background)
    else:
        decode_into(dataset.read(sample), out)
