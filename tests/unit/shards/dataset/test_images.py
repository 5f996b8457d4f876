"""One image in, one square RGB image out."""

from __future__ import annotations

import contextlib
import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image, ImageCms

from shards.dataset import images
from shards.dataset.decode import decode_into
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import ImageError, Prepared, dimensions, native
from support.errors import raises
from support.launching import decoded


def prepare(data: bytes, size: int, *rest: str, **options: object) -> Prepared:
    """`images.prepare` for square RGB images."""
    return images.prepare(data, ImageShape.of(size), *rest, **options)  # type: ignore[arg-type]


def square(data: bytes, size: int, *rest: str, **options: str) -> np.ndarray:
    return images.pixels(data, ImageShape.of(size), *rest, **options)


def encoded(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    assert image.mode == "RGB"
    return np.asarray(image)


def near(part: np.ndarray, colour: int | tuple[int, int, int]) -> bool:
    """Whether an area has one colour, up to the ringing of the filter."""
    return bool(np.abs(part.astype(int) - np.array(colour)).max() <= 12)


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), (255, 0, 0))
    image.paste((0, 0, 255), (width // 2, 0, width, height))
    return image


@pytest.mark.parametrize(("form", "name"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_an_image_that_fits_is_kept_byte_for_byte(form: str, name: str) -> None:
    data = encoded(halves(16, 16), form)
    for wanted in ("auto", name):
        assert prepare(data, 16, form=wanted) == (data, name, True, False)
    other = prepare(data, 16, form="png" if name != "png" else "jpg")
    assert not other.copied and other.data != data


@pytest.mark.parametrize(
    "data",
    [
        encoded(halves(17, 17)),
        encoded(halves(16, 16).convert("L")),
        encoded(halves(16, 16).convert("P")),
        encoded(halves(16, 16), transparency=(255, 0, 0)),
        encoded(halves(16, 16), "BMP"),
        encoded(
            halves(16, 16), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
        ),
        encoded(halves(16, 16), save_all=True, append_images=[Image.new("RGB", (16, 16))]),
    ],
    ids=["size", "grey", "palette", "see-through", "bmp", "turned", "animated"],
)
def test_what_does_not_fit_is_converted(data: bytes) -> None:
    done = prepare(data, 16, form="png")
    assert not done.copied and pixels(done.data).shape == (16, 16, 3)


def test_sixteen_bits_a_channel_are_not_copied_and_not_clipped() -> None:
    grey = Image.fromarray(np.full((8, 8), 0x8000, np.uint16))
    assert (pixels(prepare(encoded(grey), 8, form="png").data) == 0x80).all()
    row = b"\0" + struct.pack(">HHH", 0x8000, 0x4000, 0xFFFF) * 8
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 8, 8, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 8)),
        (b"IEND", b""),
    ]
    deep = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body)) for name, body in chunks
    )
    done = prepare(deep, 8, form="png")
    assert not done.copied and (pixels(done.data) == (0x80, 0x40, 0xFF)).all()


def test_crop_pad_and_stretch() -> None:
    data = encoded(halves(32, 16))
    crop, pad, stretch = (pixels(prepare(data, 16, fit, "png").data) for fit in ("crop", "pad", "stretch"))
    assert near(crop[:, :8], (255, 0, 0)) and near(crop[:, 8:], (0, 0, 255))
    assert near(pad[:4], 255) and near(pad[12:], 255) and near(pad[4:12, :6], (255, 0, 0))
    assert near(stretch[:, :6], (255, 0, 0)) and near(stretch[:, 10:], (0, 0, 255))


def test_transparency_lies_on_white_and_does_not_bleed() -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    image.paste((255, 0, 0, 255), (0, 0, 16, 8))
    done = pixels(prepare(encoded(image), 8, form="png").data)
    assert near(done[-2:], 255) and near(done[:2], (255, 0, 0))


def test_exif_orientation_is_carried_out() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned a quarter clockwise: left becomes top
    data = encoded(halves(32, 16), "PNG", exif=exif)
    assert dimensions(data) == (16, 32)
    done = pixels(prepare(data, 16, "stretch", "png").data)
    assert near(done[:6], (255, 0, 0)) and near(done[10:], (0, 0, 255))


def test_resizing_is_antialiased() -> None:
    stripes = np.zeros((256, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    done = pixels(prepare(encoded(Image.fromarray(stripes)), 16, form="png").data)
    assert abs(done.astype(int) - 127).max() < 12  # point sampling would leave black and white


def test_jpeg_keeps_full_colour_resolution() -> None:
    image = Image.open(io.BytesIO(prepare(encoded(halves(33, 33), "BMP"), 33).data))
    assert image.format == "JPEG"
    assert [part[1:3] for part in image.layer] == [(1, 1)] * 3  # type: ignore[attr-defined] - 4:4:4


def test_bombs_are_refused_before_they_are_decoded() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    bomb += struct.pack(">I", 4) + b"IDAT" + b"\0" * 8
    with pytest.raises(ImageError, match="refused: a decompression bomb"):
        prepare(bomb, 16)


@pytest.mark.parametrize(
    "read", [lambda data: prepare(data, 64), lambda data: decode_into(data, np.empty((64, 64, 3), np.uint8))]
)
def test_what_pillow_would_hand_to_another_program_is_no_image(read: Callable[[bytes], object]) -> None:
    """Ghostscript would run what is written in it."""
    program = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n{} loop\n%%EOF\n"
    assert Image.open(io.BytesIO(program)).format == "EPS"
    with pytest.raises((ImageError, ValueError), match=r"not a readable image|unknown format"):
        read(program)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_off_image_is_damaged(form: str) -> None:
    data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), form)
    for keep in (0, 10, len(data) // 2):
        with pytest.raises(ImageError):
            prepare(data[:keep], 64)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_bytes_of_any_kind_are_an_image_or_an_image_error(noise: bytes, at: int) -> None:
    whole = encoded(halves(16, 16))
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            shape = pixels(prepare(data, 8, form="png").data).shape
        except ImageError:
            continue
        assert shape == (8, 8, 3)


def upside(form: str) -> bytes:
    """An image that its EXIF notes say is to be turned."""
    notes = Image.Exif()
    notes[0x0112], notes[0x010E] = 6, "some words"
    return encoded(halves(16, 16), form, exif=notes)


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "PNG", "TIFF"])
@given(st.lists(st.tuples(st.integers(0, 160), st.integers(0, 255)), min_size=1, max_size=4))
@example([(41, 74)])  # Pillow answers these by a struct.error
def test_damaged_notes_are_an_image_or_an_image_error(form: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(upside(form))
    for at, value in changes:
        data[at % len(data)] = value
    for look in (dimensions, native, lambda data: prepare(data, 8), lambda data: square(data, 8)):
        with contextlib.suppress(ImageError):
            look(bytes(data))
    with contextlib.suppress(ValueError):
        decoded(bytes(data), 16)


def test_how_an_image_is_read_at_its_own_size() -> None:
    plain = halves(16, 16)
    forms = {form: native(encoded(plain, form))[0] for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF")}
    assert forms == {"JPEG": "jpg", "PNG": "png", "WEBP": "webp", "BMP": "other", "GIF": "other"}
    assert {native(upside(form))[0] for form in ("JPEG", "WEBP", "PNG")} == {"other"}
    array = npy(np.asarray(plain))
    assert native(array) == ("raw", len(array) - 16 * 16 * 3)
    assert native(encoded(plain.convert("L")))[0] == native(encoded(plain.convert("RGBA")))[0] == "other"


def npy(array: np.ndarray) -> bytes:
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def test_raw_images_go_in_and_out_unchanged() -> None:
    wanted = np.arange(8 * 8 * 3, dtype=np.uint8).reshape(8, 8, 3)
    for data in (npy(wanted), encoded(Image.fromarray(wanted))):
        done = prepare(data, 8, form="raw")
        assert done.format == "raw" and done.data == wanted.tobytes()
        assert (square(data, 8) == wanted).all()
    assert prepare(npy(wanted), 8).copied and dimensions(npy(wanted)) == (8, 8)
    assert pixels(prepare(npy(wanted), 4, form="png").data).shape == (4, 4, 3)


@pytest.mark.parametrize(
    "data",
    [
        npy(np.zeros((8, 8, 3), np.float32)),
        npy(np.zeros((8, 8), np.uint8)),
        npy(np.zeros((0, 8, 3), np.uint8)),
        npy(np.zeros((8, 8, 3), np.uint8))[:-1],
        b"\x93NUMPY\x01\x00\xff\xff" + b"(" * 65535,
        b"\x93NUMPY\x02\x00\xff\xff\xff\x7f{",
    ],
    ids=["float", "grey", "empty", "short", "deep", "long"],
)
def test_arrays_that_are_no_image_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        prepare(data, 8)


def swapped() -> bytes:
    """A colour profile in which red and green have changed places."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"s\0R\0G\0B", b"x\0X\0X\0X").replace(b"sRGB", b"xXXX")
    return profile.replace(b"rXYZ", b"tmpX").replace(b"gXYZ", b"rXYZ").replace(b"tmpX", b"gXYZ")


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_colour_profiles_are_carried_out_and_not_kept(form: str) -> None:
    data = encoded(Image.new("RGB", (8, 8), (255, 0, 0)), form, icc_profile=swapped())
    done = prepare(data, 8, form="png")
    assert not done.copied and not done.profile_ignored
    assert near(pixels(done.data), (0, 255, 0))
    assert "icc_profile" not in Image.open(io.BytesIO(done.data)).info


def test_srgb_is_copied_and_a_broken_profile_is_counted() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = encoded(halves(8, 8), icc_profile=srgb)
    assert prepare(data, 8) == (data, "png", True, False)
    for broken in (b"nothing", srgb[:200], swapped()[:300]):
        done = prepare(encoded(halves(8, 8), icc_profile=broken), 8, form="png")
        assert not done.copied and done.profile_ignored
        assert (pixels(done.data) == np.asarray(halves(8, 8))).all()


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    grey = Image.new("RGB", (8, 8), (255, 255, 255)).convert(mode)
    for profile in (None, swapped()):
        options = {"icc_profile": profile} if profile else {}
        form = "TIFF"
        assert near(pixels(prepare(encoded(grey, form, **options), 8, form="png").data), 255)


def test_cmyk_jpeg() -> None:
    data = encoded(Image.new("RGB", (8, 8), (255, 0, 0)).convert("CMYK"), "JPEG", quality=100)
    assert near(pixels(prepare(data, 8, form="png").data), (254, 0, 0))


@pytest.mark.parametrize(("background", "rgb"), [("black", (0, 0, 0)), ("#102030", (16, 32, 48))])
def test_the_background_can_be_chosen(background: str, rgb: tuple[int, int, int]) -> None:
    clear = encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    assert (square(clear, 8, background=background) == rgb).all()
    padded = square(encoded(halves(16, 8)), 8, "pad", background)
    assert (padded[:2] == rgb).all() and (padded[-2:] == rgb).all()


@pytest.mark.parametrize("background", ["", "whitte", "#12", "#" + "f" * 1000, "\0"])
def test_what_is_no_colour_is_named(background: str) -> None:
    with raises("invalid-value", "--background"):
        images.colour(background)


def test_images_under_the_minimum_are_refused() -> None:
    data = encoded(halves(20, 10))
    assert prepare(data, 8, min_size=10).data
    with pytest.raises(ImageError, match="refused: 20 x 10 pixels, under 11"):
        prepare(data, 8, min_size=11)


@pytest.mark.parametrize("fit", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("shape", [(400, 300), (300, 400), (1600, 130), (256, 256)])
def test_decoding_at_a_fraction_does_not_show(fit: str, shape: tuple[int, int]) -> None:
    x, y = np.meshgrid(np.linspace(0, 9, shape[0]), np.linspace(0, 7, shape[1]))
    waves = np.stack([np.sin(x + y), np.cos(x), np.sin(3 * y)], 2)
    data = encoded(Image.fromarray((waves * 100 + 128).astype(np.uint8)), "JPEG", quality=98, subsampling=0)
    whole, _ = images.upright(Image.open(io.BytesIO(data)))
    expected = np.asarray(images.resized(whole, ImageShape.of(32), fit)).astype(int)
    found = square(data, 32, fit).astype(int)
    assert np.abs(found - expected).mean() < 1.5
