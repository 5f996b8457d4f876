"""One picture: any encoding in, a square RGB picture of the data set's size out."""

from __future__ import annotations

import contextlib
import functools
import io
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps

from shards.core.errors import UserError

EXTENSIONS = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"})
READ = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # Pillow's names; not what it hands to programs, as EPS
FITS = ("crop", "pad", "stretch")
FORMS = ("auto", "jpg", "png", "webp", "raw")
LARGEST = 1 << 16  # pixels along a side; the product is bounded by Pillow's own guard against bombs

_QUALITY = 95
_NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "NPY": "raw"}
_ORIENTATION = 0x0112
_NPY = b"\x93NUMPY"
_SPARE = 2  # a JPEG is decoded at a fraction only while it stays this many times as large as it is to become
_PROFILE = 1 << 24  # bytes; a larger colour profile is none
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}

# What Pillow warns of in damaged notes is no concern of ours; set once, for `catch_warnings` is not safe among threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


class PictureError(Exception):
    """A picture that cannot be used; the message says why, in a few words."""


class Prepared(NamedTuple):
    """A picture ready to be stored.

    Attributes:
        data: an encoded picture; of format "raw" its pixels, uint8 (S, S, 3).
        format: "jpg", "png", "webp" or "raw".
        copied: whether these are the original's bytes.
        profile_ignored: whether it has a colour profile that cannot be used.
    """

    data: bytes
    format: str
    copied: bool
    profile_ignored: bool = False


def policy(fit: str, background: str = "white") -> str:
    """The name of what `prepare` does to a picture of another size, for the manifest."""
    return (
        f"{fit}, lanczos (Pillow, antialiased; JPEGs decoded at 1/2, 1/4 or 1/8 while at least {_SPARE} times as large)"
        f", ICC to sRGB, alpha on {background}"
    )


def colour(background: str) -> tuple[int, int, int]:
    """Red, green and blue, 0 to 255, of a colour's name or #rrggbb.

    Raises:
        UserError: no such colour.
    """
    try:
        return ImageColor.getrgb(background.strip()[:100])[:3]
    except ValueError:
        raise UserError(f"--background {background!r} is no colour; write a name (white) or #rrggbb") from None


def dimensions(data: bytes) -> tuple[int, int]:
    """(width, height) in pixels as the picture is to be seen, read from its header.

    Raises:
        PictureError: no picture, or one too large to open safely.
    """
    with _opened(data) as picture, _guarded():
        width, height = picture.size
        return (height, width) if _orientation(picture) in (5, 6, 7, 8) else (width, height)


def native(data: bytes) -> tuple[str, int]:
    """How a picture that others wrote is to be read at its own size.

    Returns:
        "jpg", "png", "webp" or "raw" where that takes no conversion, else "other"; and the bytes before the pixels of
        a raw one, else 0.

    Raises:
        PictureError: as for `dimensions`.
    """
    with _opened(data) as picture, _guarded():
        found = _NAMES.get(picture.format or "", "other")
        if found == "raw":
            return found, len(data) - 3 * picture.width * picture.height
        turned = found == "png" and b"eXIf" in data  # which may stand behind the pixels, that are not decoded here
        return (found if _plain(picture, data) and not turned else "other"), 0


def prepare(
    data: bytes, size: int, fit: str = "crop", form: str = "auto", background: str = "white", min_size: int = 1
) -> Prepared:
    """Make a picture fit the data set.

    A picture that already fits (its size, 8-bit RGB in sRGB, upright, an encoding that ``form`` allows) is kept
    byte for byte. Any other is turned upright, converted to sRGB, laid on the background, made square, resized
    and encoded: JPEG with quality 95 and full colour resolution, unless ``form`` says otherwise.

    Args:
        data: an encoded picture of any kind that Pillow reads, or a .npy file of uint8 (H, W, 3).
        size: height and width wanted, in pixels.
        fit: how a picture becomes square: "crop" its centre, "pad" with the background, or "stretch".
        form: one of `FORMS`.
        background: colour behind transparent pictures and beside padded ones, see `colour`.
        min_size: pixels that the shorter side must have.

    Raises:
        PictureError: it cannot be decoded, is too large to decode safely, or too small.
    """
    with _opened(data) as picture, _guarded():
        if min(picture.size) < min_size:
            raise PictureError(f"refused: {picture.size[0]} x {picture.size[1]} pixels, under {min_size}")
        found = _NAMES.get(picture.format or "", "")
        if found and form in ("auto", found) and picture.size == (size, size):
            picture.load()  # a damaged picture is not copied either, and only now is its info complete
            if _plain(picture, data):
                return Prepared(picture.tobytes() if found == "raw" else data, found, True)
        square, ignored = _square(picture, size, fit, colour(background))
    form = "jpg" if form == "auto" else form
    return Prepared(encode(square, form), form, False, ignored)


def pixels(data: bytes, size: int, fit: str = "crop", background: str = "white") -> np.ndarray:
    """What `prepare` would show, as uint8 (size, size, 3): for pictures that others wrote, read on the fly.

    Raises:
        PictureError: it cannot be decoded, or is too large to decode safely.
    """
    with _opened(data) as picture, _guarded():
        return np.asarray(_square(picture, size, fit, colour(background))[0])


def encode(picture: Image.Image, form: str) -> bytes:
    """An RGB picture as the bytes of a jpg (quality 95, 4:4:4), png or webp (quality 95) file, or raw pixels."""
    if form == "raw":
        return picture.tobytes()
    out = io.BytesIO()
    if form == "jpg":
        picture.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    elif form == "webp":
        picture.save(out, "WEBP", quality=_QUALITY)
    else:
        picture.save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- shape


def _square(picture: Image.Image, size: int, fit: str, background: tuple[int, int, int]) -> tuple[Image.Image, bool]:
    """The picture as it is stored, RGB, and whether its colour profile had to be ignored."""
    scale = _draft(picture, size, fit) if picture.format == "JPEG" else 1
    upright, ignored = upright_rgb(picture, background)
    return resized(upright, size, fit, background, scale), ignored


def _draft(picture: Image.Image, size: int, fit: str) -> int:
    """Let libjpeg scale down by 2, 4 or 8 while it decodes, where enough is left for the filter to do the rest.

    Returns:
        By how much it will: 1, 2, 4 or 8.
    """
    width, height = picture.size
    side = max(width, height) if fit == "pad" else min(width, height)
    scale = next((scale for scale in (8, 4, 2) if side >= scale * _SPARE * size), 1)
    if scale > 1:
        picture.draft(None, (max(1, width // scale), max(1, height // scale)))  # pyright: ignore[reportArgumentType]
    return scale if picture.size != (width, height) else 1


def resized(
    picture: Image.Image,
    size: int,
    fit: str,
    background: tuple[int, int, int] = (255, 255, 255),
    scale: int = 1,
) -> Image.Image:
    """An RGB picture as ``size`` x ``size`` pixels, by an antialiased Lanczos filter.

    ``scale``: how much smaller than the original the picture is already; its centre is that of the original's pixels.
    """
    width, height = picture.size
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        side = min(width, height)
        left, top = (((edge - side) * scale // 2) / scale for edge in (width, height))
        box = (left, top, left + side, top + side)
    elif fit == "pad" and width != height:
        longest = max(width, height)
        near = (max(1, round(width * size / longest)), max(1, round(height * size / longest)))
        inner = picture.resize(near, Image.Resampling.LANCZOS)
        picture = Image.new("RGB", (size, size), background)
        picture.paste(inner, ((size - near[0]) // 2, (size - near[1]) // 2))
        return picture
    if (box[2] - box[0], box[3] - box[1]) == (size, size):
        return picture.crop(box) if picture.size != (size, size) else picture
    return picture.resize((size, size), Image.Resampling.LANCZOS, box)


# ---------------------------------------------------------------- colour


def upright_rgb(picture: Image.Image, background: tuple[int, int, int] = (255, 255, 255)) -> tuple[Image.Image, bool]:
    """The first frame, turned as its EXIF says, in sRGB, on the background where it is transparent, as 8-bit RGB.

    Returns:
        The picture, without any notes, and whether it has a colour profile that cannot be used.

    Raises:
        ValueError: a kind of pixel that has no certain meaning as colour (32-bit integers or floats).
    """
    profile = picture.info.get("icc_profile")
    if _orientation(picture) != 1:
        picture = ImageOps.exif_transpose(picture)
    picture.load()
    if picture.mode.startswith("I;16"):  # Pillow's own conversion would clip to white
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    if picture.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {picture.mode} have no fixed range")
    alpha = None
    if picture.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in picture.info:
        grey = picture.mode in ("LA", "La", "L")
        layer = picture.convert("RGBA")
        alpha = layer.getchannel("A")
        picture = layer.getchannel("R") if grey else layer.convert("RGB")
    picture, ignored = _to_srgb(picture, profile) if profile else (picture, False)
    picture = picture if picture.mode == "RGB" else picture.convert("RGB")
    if alpha is not None:
        picture = Image.composite(picture, Image.new("RGB", picture.size, background), alpha)
    picture.info = {}  # or a PNG would carry the old profile on
    return picture, ignored


def _to_srgb(picture: Image.Image, profile: object) -> tuple[Image.Image, bool]:
    """The picture in sRGB, where its profile is another; and whether that profile had to be ignored."""
    if picture.mode not in _SPACES.values():
        picture = picture.convert("L" if picture.mode == "1" else "RGB")
    transform = _transform(profile, picture.mode) if isinstance(profile, bytes) else None
    if transform is None:
        return picture, True
    if isinstance(transform, str):
        return picture, False
    try:
        return ImageCms.applyTransform(picture, transform) or picture, False
    except Exception:
        return picture, True


@functools.lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | str | None:
    """What brings pictures of a mode from a profile to sRGB; "sRGB" where nothing is to be done, None: not usable."""
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
    except Exception:  # a damaged profile is none
        return None


# ---------------------------------------------------------------- opening


@contextlib.contextmanager
def _guarded() -> Iterator[None]:
    """Pillow's many readers fail on damaged files in as many ways; each of them means the same here.

    Raises:
        PictureError: something did.
    """
    try:
        yield
    except (PictureError, UserError):
        raise
    except Image.UnidentifiedImageError:
        raise PictureError("no picture that can be read") from None
    except Exception as error:
        raise PictureError(f"damaged ({_reason(error)})") from None


def _opened(data: bytes) -> Image.Image:
    if data.startswith(_NPY):
        return _raw(data)
    if not data:
        raise PictureError("an empty file")
    bomb = PictureError("refused: a decompression bomb, or too many pixels to open safely")
    with _guarded():
        try:
            picture = Image.open(io.BytesIO(data), formats=READ)
        except Image.DecompressionBombError:
            raise bomb from None
    if picture.width * picture.height > (Image.MAX_IMAGE_PIXELS or 1 << 62):  # of which Pillow only warns
        raise bomb
    if max(picture.size) > LARGEST:
        raise PictureError(f"refused: {picture.size[0]} x {picture.size[1]} pixels")
    return picture


def _raw(data: bytes) -> Image.Image:
    """The picture in a .npy file."""
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(file)
    except Exception as error:  # numpy's reading of a damaged header fails in many ways
        raise PictureError(f"damaged ({_reason(error)})") from None
    if dtype != np.uint8 or fortran or len(shape) != 3 or shape[2] != 3 or not 0 < min(shape) <= max(shape) <= LARGEST:
        raise PictureError("an array that is no picture: it must be uint8 (height, width, 3)")
    if len(data) - file.tell() != shape[0] * shape[1] * 3 or shape[0] * shape[1] > (Image.MAX_IMAGE_PIXELS or 1 << 30):
        raise PictureError("damaged (its header and its length do not agree)")
    picture = Image.frombytes("RGB", (shape[1], shape[0]), data[file.tell() :])
    picture.format = "NPY"
    return picture


def _plain(picture: Image.Image, data: bytes) -> bool:
    """Whether a picture of the right size can stay as it is."""
    profile = picture.info.get("icc_profile")
    return (
        picture.mode == "RGB"
        and getattr(picture, "n_frames", 1) == 1
        and "transparency" not in picture.info
        and _orientation(picture) == 1
        # 16 bits a channel in a PNG's header: Pillow opens it as plain RGB, other readers do not.
        and not (picture.format == "PNG" and data[24:25] == b"\x10")
        and (not profile or _transform(profile, "RGB") == "sRGB")
    )


def _orientation(picture: Image.Image) -> int:
    return picture.getexif().get(_ORIENTATION, 1)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
