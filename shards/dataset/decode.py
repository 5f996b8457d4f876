"""Decode images to pixels, as fast as possible: the stream does this for every sample."""

from __future__ import annotations

import io

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import MODES, ImageShape
from shards.dataset.transparency import hide_colours

_JPEG = b"\xff\xd8"
_PACKED = ("JPEG", "PNG", "WEBP")  # Pillow's names
_TURBO = {1: "GRAY", 3: "RGB"}  # simplejpeg's names, by the number of channels


def decode_into(data: bytes, out: np.ndarray) -> None:
    """Decode one packed image into an array.

    simplejpeg takes half of Pillow's time at 96 px for the same pixels; Pillow decodes other formats and unusual JPEGs.

    Args:
        data: a JPEG, PNG or WebP file.
        out: uint8 (H, W, C), contiguous, the shape of the dataset's images; undefined after an error.

    Raises:
        ValueError: the image cannot be decoded, or has another size.
    """
    channels = out.shape[2]
    if data.startswith(_JPEG) and (space := _TURBO.get(channels)):
        try:
            if simplejpeg.decode_jpeg(data, space, fastdct=False, fastupsample=False, buffer=out).shape == out.shape:
                return
        except ValueError:
            pass  # a CMYK or otherwise unusual JPEG, or one of another size
    try:
        with Image.open(io.BytesIO(data), formats=_PACKED) as image:
            if image.size == (out.shape[1], out.shape[0]):
                out[:] = np.asarray(image.convert(MODES[channels])).reshape(out.shape)
                return
            width, height = image.size
    except UnidentifiedImageError:  # its message names a memory address
        raise ValueError("the image cannot be decoded: unknown format") from None
    except Exception as error:  # Pillow fails on damaged files in many ways
        raise ValueError(f"the image cannot be decoded: {error}") from None
    raise ValueError(f"the image is {width}x{height}, not {out.shape[1]}x{out.shape[0]}")


def fit_into(data: bytes, out: np.ndarray, fit: str, background: str) -> None:
    """Decode an image of any format and size into an array: turned upright, fitted and resized.

    Args:
        data: an encoded image.
        out: as in `decode_into`.
        fit, background: see `images.prepare`.

    Raises:
        ValueError: the image cannot be decoded.
    """
    from shards.dataset.images import ImageError, pixels

    try:
        out[:] = pixels(data, ImageShape.of_pixels(out), fit, background)
    except ImageError as error:
        raise ValueError(f"the image is {error}") from None


def read_pixels(dataset: Dataset, sample: int, out: np.ndarray) -> None:
    """Read the pixels of one sample into ``out``, uint8 (H, W, C), for any format of the dataset.

    Raises:
        ValueError: the image cannot be decoded.
        Failure: it cannot be read or fetched.
    """
    form = dataset.format(sample)
    if form == "raw":
        dataset.read_into(sample, out.data.cast("B"))
    elif form == "other":
        fit_into(dataset.read(sample), out, dataset.fit, dataset.background)
    else:
        decode_into(dataset.read(sample), out)
    if dataset.in_place and dataset.shape.channels == 4:
        hide_colours(out)  # packing has done this already


def read_images(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read images of a dataset, in the order of ``rows``.

    Returns:
        images: uint8 (n, C, H, W), white where damaged.
        intact: bool (n,).

    Raises:
        Failure: a remote image cannot be fetched.
    """
    out = np.empty((len(rows), *dataset.shape.pixels_shape), np.uint8)
    intact = np.zeros(len(rows), bool)
    for number, row in enumerate(rows.tolist()):
        try:
            read_pixels(dataset, row, out[number])
            intact[number] = True
        except (ValueError, Failure) as error:
            if dataset.remote and isinstance(error, Failure):  # a lost server, or a full disk
                raise
            out[number] = 255
    return out.transpose(0, 3, 1, 2), intact
