"""Convert an image of any encoding and size to a square RGB image of the dataset's size."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps, features

from shards.core.errors import UserError

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
)
# Pillow's names; no formats that it passes to other programs, such as EPS.
READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
FITS = ("crop", "pad", "stretch")
FORMS = ("auto", "jpg", "png", "webp", "raw")
LARGEST = 1 << 16  # pixels per side; the product is limited by Pillow's check for decompression bombs

_QUALITY = 95
_NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "NPY": "raw"}
_ORIENTATION = 0x0112
_NPY = b"\x93NUMPY"
_NOT_IMAGES = {  # what downloads leave in place of images, in lower case
    b"version https://git-lfs": "a pointer of Git LFS: run git lfs pull",
    b"<!doctype html": "a web page, not an image",
    b"<html": "a web page, not an image",
}
_SPARE = 2  # a JPEG is decoded at reduced size only if that is at least so many times the final size
_PROFILE = 1 << 24  # bytes; larger colour profiles are ignored
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}

# Pillow's warnings about damaged metadata are not of interest; `catch_warnings` is not thread-safe, so set it once.
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(Exception):
    """An image that cannot be used; the message says why, in a few words."""


class Prepared(NamedTuple):
    """An image ready to be stored.

    Attributes:
        data: an encoded image; for format "raw", its pixels, uint8 (S, S, 3).
        format: "jpg", "png", "webp" or "raw".
        copied: True if these are the original's bytes.
        profile_ignored: True if it has a colour profile that cannot be used.
    """

    data: bytes
    format: str
    copied: bool
    profile_ignored: bool = False


def policy(fit: str, background: str = "white") -> str:
    """Return the description of what `prepare` does to images of another size, for the manifest."""
    return (
        f"{fit}, lanczos (Pillow, antialiased; JPEGs decoded at 1/2, 1/4 or 1/8 while at least {_SPARE} times as large)"
        f", ICC to sRGB, alpha on {background}"
    )


def colour(background: str) -> tuple[int, int, int]:
    """Return red, green and blue, 0 to 255, of a colour name or #rrggbb.

    Raises:
        UserError: there is no such colour.
    """
    try:
        return ImageColor.getrgb(background.strip()[:100])[:3]
    except ValueError:
        raise UserError(
            "invalid-value", f"--background {background!r} is not a colour; give a name (white) or #rrggbb"
        ) from None


def dimensions(data: bytes) -> tuple[int, int]:
    """Return (width, height) in pixels of the upright image, read from its header.

    Raises:
        ImageError: not an image, or too large to open safely.
    """
    with _opened(data) as image, _guarded():
        width, height = image.size
        return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def native(data: bytes) -> tuple[str, int]:
    """Return how a foreign image is read at its own size.

    Returns:
        "jpg", "png", "webp" or "raw" if that needs no conversion, else "other"; and the number of bytes before the
        pixels of a raw image, else 0.

    Raises:
        ImageError: like `dimensions`.
    """
    with _opened(data) as image, _guarded():
        found = _NAMES.get(image.format or "", "other")
        if found == "raw":
            return found, len(data) - 3 * image.width * image.height
        turned = found == "png" and b"eXIf" in data  # which may follow the pixels, which are not decoded here
        return (found if _plain(image, data) and not turned else "other"), 0


def prepare(
    data: bytes, size: int, fit: str = "crop", form: str = "auto", background: str = "white", min_size: int = 1
) -> Prepared:
    """Convert an image to the format of the dataset.

    An image that fits already (its size, 8-bit RGB in sRGB, upright, an encoding that ``form`` allows) is copied byte
    for byte. Any other is turned upright, converted to sRGB, composited on the background, made square, resized and
    encoded: as JPEG with quality 95 and full colour resolution, unless ``form`` says otherwise.

    Args:
        data: an encoded image of one of the formats `READ`, AVIF or HEIC, or a .npy file of uint8 (H, W, 3).
        size: height and width of the result, in pixels.
        fit: how an image is made square: "crop" its centre, "pad" with the background, or "stretch".
        form: one of `FORMS`.
        background: colour behind transparent images and around padded ones, see `colour`.
        min_size: minimum length of the shorter side, in pixels.

    Raises:
        ImageError: it cannot be decoded, is too large to decode safely, or too small.
    """
    with _opened(data) as image, _guarded():
        if min(image.size) < min_size:
            raise ImageError(f"refused: {image.size[0]} x {image.size[1]} pixels, under {min_size}")
        found = _NAMES.get(image.format or "", "")
        if found and form in ("auto", found) and image.size == (size, size):
            image.load()  # damaged images are not copied either, and only now is its info complete
            if _plain(image, data):
                return Prepared(image.tobytes() if found == "raw" else data, found, True)
        square, ignored = _square(image, size, fit, colour(background))
    form = "jpg" if form == "auto" else form
    return Prepared(encode(square, form), form, False, ignored)


def pixels(data: bytes, size: int, fit: str = "crop", background: str = "white") -> np.ndarray:
    """Return the pixels that `prepare` would store, uint8 (size, size, 3): for foreign images, converted when read.

    Raises:
        ImageError: it cannot be decoded, or is too large to decode safely.
    """
    with _opened(data) as image, _guarded():
        return np.asarray(_square(image, size, fit, colour(background))[0])


def encode(image: Image.Image, form: str) -> bytes:
    """Encode an RGB image as jpg (quality 95, 4:4:4), png, webp (quality 95) or raw pixels."""
    if form == "raw":
        return image.tobytes()
    out = io.BytesIO()
    if form == "jpg":
        image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    elif form == "webp":
        image.save(out, "WEBP", quality=_QUALITY)
    else:
        image.save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- shape


def _square(image: Image.Image, size: int, fit: str, background: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """Return the image as it is stored, RGB, and whether its colour profile had to be ignored."""
    scale = _draft(image, size, fit) if image.format == "JPEG" else 1
    upright, ignored = upright_rgb(image, background)
    return resized(upright, size, fit, background, scale), ignored


def _draft(image: Image.Image, size: int, fit: str) -> int:
    """Let libjpeg scale down by 2, 4 or 8 while it decodes, if the result is large enough for the final filter.

    Returns:
        The factor: 1, 2, 4 or 8.
    """
    width, height = image.size
    side = max(width, height) if fit == "pad" else min(width, height)
    scale = next((scale for scale in (8, 4, 2) if side >= scale * _SPARE * size), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))  # pyright: ignore[reportArgumentType]
    return scale if image.size != (width, height) else 1


def resized(
    image: Image.Image,
    size: int,
    fit: str,
    background: tuple[int, int, int] = (255, 255, 255),
    scale: int = 1,
) -> Image.Image:
    """Return an RGB image resized to ``size`` x ``size`` pixels with an antialiased Lanczos filter.

    ``scale``: the factor by which the image is reduced already; the crop is centred on the original's pixels.
    """
    width, height = image.size
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(width, height)
        left, top = (((edge - side) * scale // 2) / scale for edge in (width, height))
        box = (left, top, left + side, top + side)
    elif fit == "pad" and width != height:
        longest = max(width, height)
        near = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
        inner = image.resize(near, Image.Resampling.LANCZOS)
        image = Image.new("RGB", (size, size), background)
        image.paste(inner, ((size - near[0]) // 2, (size - near[1]) // 2))
        return image
    if (box[2] - box[0], box[3] - box[1]) == (size, size):
        return image.crop(box) if image.size != (size, size) else image
    return image.resize((size, size), Image.Resampling.LANCZOS, box)


# ---------------------------------------------------------------- colour


def upright_rgb(image: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> tuple[Image.Image, bool]:
    """Return the first frame as 8-bit RGB: turned by its EXIF orientation, in sRGB, composited on the background.

    Returns:
        The image, without metadata, and whether it has a colour profile that cannot be used.

    Raises:
        ValueError: the pixels have no defined colour range (32-bit integers or floats).
    """
    profile = image.info.get("icc_profile")
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode.startswith("I;16"):  # Pillow's own conversion would clip to white
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    alpha = None
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        grey = image.mode in ("LA", "La", "L")
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        image = layer.getchannel("R") if grey else layer.convert("RGB")
    image, ignored = _to_srgb(image, profile) if profile else (image, False)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, background), alpha)
    image.info = {}  # or a PNG would keep the old profile
    return image, ignored


def _to_srgb(image: Image.Image, profile: object) -> tuple[Image.Image, bool]:
    """Return the image converted to sRGB, and whether its profile had to be ignored."""
    if image.mode not in _SPACES.values():
        image = image.convert("L" if image.mode == "1" else "RGB")
    transform = _transform(profile, image.mode) if isinstance(profile, bytes) else None
    if transform is None:
        return image, True
    if isinstance(transform, str):
        return image, False
    try:
        return ImageCms.applyTransform(image, transform) or image, False
    except Exception:
        return image, True


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """Return the transform of a profile to sRGB for a mode; "sRGB" if none is needed, None if it is not usable."""
    if len(profile) > _PROFILE:
        return None
    try:
        opened: Any = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(opened).lower():
            return "sRGB"
        if _SPACES.get(opened.profile.xcolor_space) != mode:
            return None
        target = ImageCms.createProfile("sRGB")
        return ImageCms.buildTransform(opened, target, mode, "RGB", ImageCms.Intent.RELATIVE_COLORIMETRIC)
    except Exception:  # a damaged profile is ignored
        return None


# ---------------------------------------------------------------- opening


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Turn any exception of Pillow's readers, which fail on damaged files in many ways, into `ImageError`."""
    try:
        yield
    except (ImageError, UserError):
        raise
    except Image.UnidentifiedImageError:
        raise ImageError("not a readable image") from None
    except Exception as error:
        raise ImageError(f"damaged ({_reason(error)})") from None


def _opened(data: bytes) -> Image.Image:
    if data.startswith(_NPY):
        return _raw(data)
    if not data:
        raise ImageError("an empty file")
    for start, name in _NOT_IMAGES.items():
        if data[:200].lstrip().lower().startswith(start):
            raise ImageError(name)
    bomb = ImageError("refused: a decompression bomb, or too many pixels to open safely")
    with _guarded():
        try:
            image = Image.open(io.BytesIO(data), formats=_formats(data))
        except Image.DecompressionBombError:
            raise bomb from None
    if image.width * image.height > (Image.MAX_IMAGE_PIXELS or 1 << 62):  # Pillow only warns
        raise bomb
    if max(image.size) > LARGEST:
        raise ImageError(f"refused: {image.size[0]} x {image.size[1]} pixels")
    return image


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
    if dtype != np.uint8 or fortran or len(shape) != 3 or shape[2] != 3 or not 0 < min(shape) <= max(shape) <= LARGEST:
        raise ImageError("not an image: the array must be uint8 (height, width, 3)")
    if len(data) - file.tell() != shape[0] * shape[1] * 3 or shape[0] * shape[1] > (Image.MAX_IMAGE_PIXELS or 1 << 30):
        raise ImageError("damaged (its header and its length do not agree)")
    image = Image.frombytes("RGB", (shape[1], shape[0]), data[file.tell() :])
    image.format = "NPY"
    return image


def _plain(image: Image.Image, data: bytes) -> bool:
    """Return whether an image of the right size can be stored unchanged."""
    profile = image.info.get("icc_profile")
    return (
        image.mode == "RGB"
        and getattr(image, "n_frames", 1) == 1
        and "transparency" not in image.info
        and _orientation(image) == 1
        # 16 bits per channel in a PNG's header: Pillow opens it as plain RGB, other readers do not.
        and not (image.format == "PNG" and data[24:25] == b"\x10")
        and (not profile or _transform(profile, "RGB") == "sRGB")
    )


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
