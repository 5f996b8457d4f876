"""One picture: any encoding in, a square RGB picture of the data set's size out."""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
FITS = ("crop", "pad", "stretch")
LARGEST = 1 << 16  # pixels along a side; the product is bounded by Pillow's own guard against bombs

_QUALITY = 95
_NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp"}
_ORIENTATION = 0x0112


class PictureError(Exception):
    """A picture that cannot be used; the message says why, in a few words."""


class Prepared(NamedTuple):
    """An encoded picture, its encoding ("jpg", "png" or "webp"), and whether the bytes are the original's."""

    data: bytes
    format: str
    copied: bool


def policy(fit: str) -> str:
    """The name of what `prepare` does to a picture of another size, for the manifest."""
    return f"{fit}, lanczos (Pillow, antialiased), alpha on white"


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as the picture is to be seen, read from its header.

    Raises:
        PictureError: no picture, or one too large to open safely.
    """
    with _opened(data) as picture:
        width, height = picture.size
        turned = picture.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
        return (height, width) if turned else (width, height)


def prepare(data: bytes, size: int, fit: str = "crop", form: str = "auto") -> Prepared:
    """Make a picture fit the data set.

    A picture that already fits (its size, 8-bit RGB, upright, an encoding that ``form`` allows) is kept byte
    for byte. Any other is turned upright, laid on white, made square, resized and encoded: JPEG with quality
    95 and full colour resolution, unless ``form`` says png (or webp).

    Args:
        data: an encoded picture of any kind that Pillow reads.
        size: height and width wanted, in pixels.
        fit: how a picture becomes square: "crop" its centre, "pad" with white, or "stretch".
        form: "auto", "jpg", "png" or "webp".

    Raises:
        PictureError: it cannot be decoded, or is too large to decode safely.
    """
    with _opened(data) as picture:
        try:
            picture.load()
            # 16 bits a channel in a PNG's header: Pillow opens it as plain RGB, other readers do not.
            deep = picture.format == "PNG" and data[24:25] == b"\x10"
            form_found = _NAMES.get(picture.format or "", "")
            if form_found and form in ("auto", form_found) and _fits(picture, size) and not deep:
                return Prepared(data, form_found, True)
            square = resized(upright_rgb(picture), size, fit)
        except (OSError, ValueError, SyntaxError, MemoryError, ArithmeticError, LookupError) as error:
            raise PictureError(f"damaged ({_reason(error)})") from None
    form = "jpg" if form == "auto" else form
    return Prepared(encode(square, form), form, False)


def encode(picture: Image.Image, form: str) -> bytes:
    """An RGB picture as the bytes of a jpg (quality 95, 4:4:4), png or webp (quality 95) file."""
    out = io.BytesIO()
    if form == "jpg":
        picture.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    elif form == "webp":
        picture.save(out, "WEBP", quality=_QUALITY)
    else:
        picture.save(out, "PNG")
    return out.getvalue()


def upright_rgb(picture: Image.Image) -> Image.Image:
    """The first frame, turned as its EXIF says, on white where it is transparent, as 8-bit RGB.

    Raises:
        ValueError: a kind of pixel that has no certain meaning as colour (32-bit integers or floats).
    """
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {picture.mode} have no fixed range")
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return picture.convert("RGB")


def resized(picture: Image.Image, size: int, fit: str) -> Image.Image:
    """An RGB picture as ``size`` x ``size`` pixels, by an antialiased Lanczos filter."""
    width, height = picture.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        picture = picture.crop((left, top, left + side, top + side))
    elif fit == "pad" and width != height:
        longest = max(width, height)
        near = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
        inner = picture.resize(near, Image.Resampling.LANCZOS)
        picture = Image.new("RGB", (size, size), "white")
        picture.paste(inner, ((size - near[0]) // 2, (size - near[1]) // 2))
    return picture if picture.size == (size, size) else picture.resize((size, size), Image.Resampling.LANCZOS)


def _opened(data: bytes) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            picture = Image.open(io.BytesIO(data))
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise PictureError("refused: a decompression bomb, or too many pixels to open safely") from None
    except Image.UnidentifiedImageError:
        raise PictureError("no picture that can be read" if data else "an empty file") from None
    except (OSError, ValueError, SyntaxError, MemoryError, ArithmeticError, LookupError) as error:
        raise PictureError(f"damaged ({_reason(error)})") from None
    if max(picture.size) > LARGEST:
        raise PictureError(f"refused: {picture.size[0]} x {picture.size[1]} pixels")
    return picture


def _fits(picture: Image.Image, size: int) -> bool:
    """Whether the bytes can stay as they are. ``picture`` has been loaded, so its ``info`` is complete."""
    return (
        picture.size == (size, size)
        and picture.mode == "RGB"
        and getattr(picture, "n_frames", 1) == 1
        and "transparency" not in picture.info
        and picture.getexif().get(_ORIENTATION, 1) == 1
    )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
