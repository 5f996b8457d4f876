"""One picture in, one square RGB picture out."""

from __future__ import annotations

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from shards.pictures import PictureError, dimensions, prepare


def encoded(picture: Image.Image, form: str = "PNG", **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, form, **options)
    return out.getvalue()


def pixels(data: bytes) -> np.ndarray:
    picture = Image.open(io.BytesIO(data))
    assert picture.mode == "RGB"
    return np.asarray(picture)


def near(part: np.ndarray, colour: int | tuple[int, int, int]) -> bool:
    """Whether an area has one colour, up to the ringing of the filter."""
    return bool(np.abs(part.astype(int) - np.array(colour)).max() <= 12)


def halves(width: int, height: int) -> Image.Image:
    """Red on the left, blue on the right."""
    picture = Image.new("RGB", (width, height), (255, 0, 0))
    picture.paste((0, 0, 255), (width // 2, 0, width, height))
    return picture


@pytest.mark.parametrize(("form", "name"), [("PNG", "png"), ("JPEG", "jpg"), ("WEBP", "webp")])
def test_a_picture_that_fits_is_kept_byte_for_byte(form: str, name: str) -> None:
    data = encoded(halves(16, 16), form)
    for wanted in ("auto", name):
        assert prepare(data, 16, form=wanted) == (data, name, True)
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
    picture = Image.new("RGBA", (16, 16), (0, 0, 0, 0))
    picture.paste((255, 0, 0, 255), (0, 0, 16, 8))
    done = pixels(prepare(encoded(picture), 8, form="png").data)
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
    picture = Image.open(io.BytesIO(prepare(encoded(halves(33, 33), "BMP"), 33).data))
    assert picture.format == "JPEG"
    assert [part[1:3] for part in picture.layer] == [(1, 1)] * 3  # type: ignore[attr-defined] - 4:4:4


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
    with pytest.raises(PictureError, match="refused: a decompression bomb"):
        prepare(bomb, 16)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"])
def test_a_cut_off_picture_is_damaged(form: str) -> None:
    data = encoded(Image.effect_noise((64, 64), 90).convert("RGB"), form)
    for keep in (0, 10, len(data) // 2):
        with pytest.raises(PictureError):
            prepare(data[:keep], 64)


@given(st.binary(max_size=200), st.integers(0, 400))
def test_bytes_of_any_kind_are_a_picture_or_a_picture_error(noise: bytes, at: int) -> None:
    whole = encoded(halves(16, 16))
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            shape = pixels(prepare(data, 8, form="png").data).shape
        except PictureError:
            continue
        assert shape == (8, 8, 3)
