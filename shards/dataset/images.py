"""Convert an image of any encoding, size and colour mode to the shape of a dataset's images."""

from __future__ import annotations

import functools
import io
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageCms, ImageColor, ImageOps

from shards.core.errors import UserError
from shards.dataset import transparency
from shards.dataset.image_files import ImageError, guarded, opened
from shards.dataset.image_shape import MODES, ImageShape

EXTENSIONS = frozenset(
    {".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".avif", ".heic", ".heif"}
    | {".ppm", ".pgm", ".pbm", ".pnm"}
)
FITS = ("crop", "pad", "stretch")
FORMS = ("auto", "jpg", "png", "webp", "raw")

_QUALITY = 95
_NAMES = {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "NPY": "raw"}
_ORIENTATION = 0x0112
_SPARE = 2  # a JPEG is decoded at reduced size only if that is at least so many times the final size
_PROFILE = 1 << 24  # bytes; larger colour profiles are ignored
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}


class Prepared(NamedTuple):
    """An image ready to be stored.

    Attributes:
        data: an encoded image; for format "raw", its pixels, uint8 (H, W, C).
        format: "jpg", "png", "webp" or "raw".
        copied: True if these are the original's bytes.
        profile_ignored: True if it has a colour profile that cannot be used.
    """

    data: bytes
    format: str
    copied: bool
    profile_ignored: bool = False


def policy(fit: str, background: str = "white", channels: int = 3) -> str:
    """Return the description of what `prepare` does to images of another shape, for the manifest."""
    alpha = f"alpha on {background}" if channels != 4 else "alpha kept (colours weighted by it, black where it is 0)"
    return (
        f"{fit}, lanczos (Pillow, antialiased; JPEGs decoded at 1/2, 1/4 or 1/8 while at least {_SPARE} times as large)"
        f", ICC to sRGB, {alpha}{', grey by ITU-R 601 luma' if channels == 1 else ''}"
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
    with opened(data) as image, guarded():
        return _upright_size(image)


def has_transparency(data: bytes) -> bool:
    """Return whether an image has pixels that are not opaque; only images with an alpha channel are decoded.

    Raises:
        ImageError: like `prepare`.
    """
    with opened(data) as image, guarded():
        return _has_alpha(image) and not transparency.is_opaque(upright(image, 4)[0])


def native(data: bytes, channels: int = 3) -> tuple[str, int]:
    """Return how a foreign image is read at its own size, in a dataset of images with so many channels.

    Returns:
        "jpg", "png", "webp" or "raw" if that needs no conversion, else "other"; and the number of bytes before the
        pixels of a raw image, else 0.

    Raises:
        ImageError: like `dimensions`.
    """
    with opened(data) as image, guarded():
        found = _NAMES.get(image.format or "", "other")
        if found == "raw":
            header = len(data) - channels * image.width * image.height
            return (found, header) if image.mode == MODES[channels] else ("other", 0)
        turned = found == "png" and b"eXIf" in data  # which may follow the pixels, which are not decoded here
        return (found if _plain(image, data, channels) and not turned else "other"), 0


def prepare(
    data: bytes, shape: ImageShape, fit: str = "crop", form: str = "auto", background: str = "white", min_size: int = 1
) -> Prepared:
    """Convert an image to the format of the dataset.

    An image that fits already (its sides, 8 bits for each of the channels, sRGB, upright, an encoding that ``form``
    allows, no colours in transparent pixels) is copied byte for byte. Any other is turned upright, converted to sRGB
    and to the channels, brought to the aspect, resized and encoded. Form "auto" is JPEG with quality 95 and full colour
    resolution; PNG for RGBA, and for grey where nothing but the channels is converted.

    Args:
        data: an encoded image of one of the formats `image_files.READ`, AVIF or HEIC, or a .npy file of uint8
            (H, W, C).
        shape: of the result. Without an alpha channel, transparent images are composited on the background.
        fit: how an image of another aspect is fitted: "crop" its centre, "pad" with the background (RGBA: with
            nothing), or "stretch".
        form: one of `FORMS`; not "jpg" for RGBA.
        background: colour behind transparent images and around padded ones, see `colour`.
        min_size: minimum length of the shorter side, in pixels.

    Raises:
        ImageError: it cannot be decoded, is too large to decode safely, or too small.
    """
    with opened(data) as image, guarded():
        if min(image.size) < min_size:
            raise ImageError(f"refused: {image.size[0]} x {image.size[1]} pixels, under {min_size}")
        found = _NAMES.get(image.format or "", "")
        fits = _upright_size(image) == (shape.width, shape.height)
        if found and form in ("auto", found) and fits:
            image.load()  # damaged images are not copied either, and only now is its info complete
            if _plain(image, data, shape.channels) and not _has_hidden_colours(image):
                return Prepared(image.tobytes() if found == "raw" else data, found, True)
        fitted, ignored = _fitted(image, shape, fit, colour(background))
    if form == "auto":
        form = "png" if shape.channels == 4 or (shape.channels == 1 and fits) else "jpg"
    return Prepared(encode(fitted, form), form, False, ignored)


def pixels(data: bytes, shape: ImageShape, fit: str = "crop", background: str = "white") -> np.ndarray:
    """Return the pixels that `prepare` would store, uint8 (H, W, C): for foreign images, converted when read.

    Raises:
        ImageError: it cannot be decoded, or is too large to decode safely.
    """
    with opened(data) as image, guarded():
        return np.asarray(_fitted(image, shape, fit, colour(background))[0]).reshape(shape.pixels_shape)


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """Return uint8 (H, W, C) as an image of mode L, RGB or RGBA."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def encode(image: Image.Image, form: str) -> bytes:
    """Encode an image as jpg (quality 95, 4:4:4), png, webp (quality 95; with alpha: lossless) or raw pixels."""
    if form == "raw":
        return image.tobytes()
    out = io.BytesIO()
    if form == "jpg":
        image.save(out, "JPEG", quality=_QUALITY, subsampling=0)
    elif form == "webp":
        lossless = {"lossless": True, "exact": True} if image.mode == "RGBA" else {}
        image.save(out, "WEBP", quality=_QUALITY, **lossless)
    else:
        image.save(out, "PNG")
    return out.getvalue()


# ---------------------------------------------------------------- shape


def _fitted(
    image: Image.Image, shape: ImageShape, fit: str, background: tuple[int, int, int]
) -> tuple[Image.Image, bool]:
    """Return the image as it is stored, and whether its colour profile had to be ignored."""
    scale = _draft(image, shape, fit) if image.format == "JPEG" else 1
    converted, ignored = upright(image, shape.channels, background)
    return resized(converted, shape, fit, background, scale), ignored


def _draft(image: Image.Image, shape: ImageShape, fit: str) -> int:
    """Let libjpeg scale down by 2, 4 or 8 while it decodes, if the result is large enough for the final filter.

    Returns:
        The factor: 1, 2, 4 or 8.
    """
    width, height = image.size
    across, down = _upright_size(image)
    enough = max if fit == "pad" else min  # a padded image has the size of the result on one side only
    ratio = enough(across / shape.width, down / shape.height)
    scale = next((scale for scale in (8, 4, 2) if ratio >= scale * _SPARE), 1)
    if scale > 1:
        image.draft(None, (max(1, width // scale), max(1, height // scale)))  # pyright: ignore[reportArgumentType]
    return scale if image.size != (width, height) else 1


def resized(
    image: Image.Image,
    shape: ImageShape,
    fit: str,
    background: tuple[int, int, int] = (255, 255, 255),
    scale: int = 1,
) -> Image.Image:
    """Return an image of the shape's mode, brought to its aspect and resized with an antialiased Lanczos filter.

    ``scale``: the factor by which the image is reduced already; the crop is centred on the original's pixels.
    """
    width, height = image.size
    wide, high = width * shape.height, height * shape.width  # their ratio is that of the two aspects
    size = shape.width, shape.height
    box = (0.0, 0.0, float(width), float(height))
    if fit == "crop":
        across, down = (height * shape.width / shape.height, height) if wide > high else (width, wide / shape.width)
        left, top = (((edge - kept) * scale // 2) / scale for edge, kept in ((width, across), (height, down)))
        box = (left, top, left + across, top + down)
    elif fit == "pad" and wide != high:
        near = (
            (shape.width, max(1, round(height * shape.width / width)))
            if wide > high
            else (max(1, round(width * shape.height / height)), shape.height)
        )
        inner = _resize(image, near, box)
        empty = Image.new("RGBA", size) if image.mode == "RGBA" else Image.new("RGB", size, background)
        image = empty.convert(image.mode)
        image.paste(inner, ((size[0] - near[0]) // 2, (size[1] - near[1]) // 2))
        return image
    return _resize(image, size, box)


def _resize(image: Image.Image, size: tuple[int, int], box: tuple[float, float, float, float]) -> Image.Image:
    """Return the box of an image, resized; unchanged where it has the size already."""
    if (box[2] - box[0], box[3] - box[1]) == size:
        return image.crop(box) if image.size != size else image
    if image.mode == "RGBA":
        return transparency.resize(image, size, box)
    return image.resize(size, Image.Resampling.LANCZOS, box)


# ---------------------------------------------------------------- colour


def upright(
    image: Image.Image, channels: int = 3, background: tuple[int, int, int] = (255, 255, 255)
) -> tuple[Image.Image, bool]:
    """Return the first frame with 8 bits for each channel: turned by its EXIF orientation, in sRGB.

    RGB and grey images are composited on the background; grey is the luma of ITU-R 601. Transparent pixels of RGBA
    images are black.

    Returns:
        The image, without metadata, and whether it has a colour profile that cannot be used.

    Raises:
        ValueError: the pixels have no defined colour range (32-bit integers or floats).
    """
    profile = image.info.get("icc_profile")
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    image.load()
    if image.mode.startswith("I;16"):
        image = _grey_of_8_bits(image)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of mode {image.mode} have no fixed range")
    alpha = None
    if _has_alpha(image):
        grey = image.mode in ("LA", "La", "L")
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        image = layer.getchannel("R") if grey else layer.convert("RGB")
    image, ignored = _to_srgb(image, profile) if profile else (image, False)
    image = image if image.mode == "RGB" else image.convert("RGB")
    if channels == 4:
        image = _with_alpha(image, alpha)
    elif alpha is not None:
        image = Image.composite(image, Image.new("RGB", image.size, background), alpha)
    if channels == 1:
        image = image.convert("L")
    image.info = {}  # or a PNG would keep the old profile
    return image, ignored


def _grey_of_8_bits(image: Image.Image) -> Image.Image:
    """Return a grey image of 16 bits as L, or LA if one of its values is transparent; Pillow would clip to white."""
    wide, clear = np.asarray(image), image.info.get("transparency")
    image = Image.fromarray((wide >> 8).astype(np.uint8))
    if clear is not None:
        image.putalpha(Image.fromarray((wide != clear).astype(np.uint8) * 255))
    return image


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info


def _with_alpha(image: Image.Image, alpha: Image.Image | None) -> Image.Image:
    image.putalpha(255 if alpha is None else alpha)
    pixels = np.array(image)
    transparency.hide_colours(pixels)
    return Image.fromarray(pixels)


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


# ---------------------------------------------------------------- what can be copied


def _plain(image: Image.Image, data: bytes, channels: int) -> bool:
    """Return whether an image of the right size can be stored unchanged, as far as its header says."""
    profile = image.info.get("icc_profile")
    return (
        image.mode == MODES[channels]
        and getattr(image, "n_frames", 1) == 1
        and "transparency" not in image.info
        and _orientation(image) == 1
        # 16 bits per channel in a PNG's header: Pillow opens it as plain RGB, other readers do not.
        and not (image.format == "PNG" and data[24:25] == b"\x10")
        and (not profile or _transform(profile, "L" if channels == 1 else "RGB") == "sRGB")
    )


def _has_hidden_colours(image: Image.Image) -> bool:
    return image.mode == "RGBA" and transparency.has_hidden_colours(image)


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) in (5, 6, 7, 8) else (width, height)


def _orientation(image: Image.Image) -> int:
    return image.getexif().get(_ORIENTATION, 1)
