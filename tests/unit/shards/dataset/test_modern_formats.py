"""AVIF and HEIC images, and what downloads leave in place of images."""

from __future__ import annotations

import base64
import io
import sys

import numpy as np
import pytest
from PIL import Image, features

from shards.dataset import image_files
from shards.dataset.image_shape import ImageShape
from shards.dataset.images import ImageError, prepare

# A HEIC of 16 x 16 pixels: the left half red, the right half blue.
HEIC = base64.b64decode(
    "AAAAHGZ0eXBoZWljAAAAAG1pZjFoZWljbWlhZgAAAXxtZXRhAAAAAAAAACFoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAAAAAACJpbG9jAAAA"
    "AERAAAEAAQAAAAABoAABAAAAAAAAAJMAAAAjaWluZgAAAAAAAQAAABVpbmZlAgAAAAABAABodmMxAAAAAA5waXRtAAAAAAABAAAA/GlwcnAAAADc"
    "aXBjbwAAAHVodmNDAQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQApQgEBA3AAAAMAkAAAAwAA"
    "AwAeoCCBBZbqrprm4CGgwIAAAAyAAAADAIRiAAEABkQBwXPBiQAAABNjb2xybmNseAABAA0ABoAAAAAUaXNwZQAAAAAAAABAAAAAQAAAAChjbGFw"
    "AAAAEAAAAAEAAAAQAAAAAf///9AAAAAC////0AAAAAIAAAAQcGl4aQAAAAADCAgIAAAAGGlwbWEAAAAAAAAAAQABBYECAwWEAAAAm21kYXQAAACP"
    "KAGvBjIa86WAXUFy9viWf//scvQ+r5n+b9Ap330y9//GnS6833JNlEfFiqe8/hUvk12J/mpagwn0cv/Rjb39PX8n+7OKw99CqGeO3XfG0JJZK89/"
    "qR0PaODPci81QJKj/PLWmup4cq6qP+F44ICntUVIKwZ7kf3f5LEO/B71PPhBJ0Xo4TKpem46zK9+NOw="
)


def avif() -> bytes:
    if not features.check("avif"):
        pytest.skip("this Pillow cannot write AVIF")
    pixels = np.zeros((16, 16, 3), np.uint8)
    pixels[:, :8, 0] = pixels[:, 8:, 2] = 250
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "AVIF", quality=100)
    return out.getvalue()


def assert_red_and_blue(data: bytes) -> None:
    prepared = prepare(data, ImageShape.of(16), form="png")
    pixels = np.asarray(Image.open(io.BytesIO(prepared.data))).astype(int)
    assert prepared.format == "png" and not prepared.copied
    assert pixels[:, 1, 0].min() > 200 and pixels[:, 1, 2].max() < 60
    assert pixels[:, 14, 2].min() > 200 and pixels[:, 14, 0].max() < 60


def test_avif_is_read() -> None:
    assert_red_and_blue(avif())


def test_heic_is_read() -> None:
    pytest.importorskip("pi_heif")
    assert_red_and_blue(HEIC)


def test_heic_without_its_package_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    image_files._register_heic.cache_clear()
    monkeypatch.setitem(sys.modules, "pi_heif", None)
    with pytest.raises(ImageError, match=r"cgan-trainer\[heic\]"):
        prepare(HEIC, ImageShape.of(16))
    image_files._register_heic.cache_clear()


@pytest.mark.parametrize("cut", [0.3, 0.6, 0.9])
def test_cut_off_images_are_damaged(cut: float) -> None:
    pytest.importorskip("pi_heif")
    for data in (HEIC, avif()):
        with pytest.raises(ImageError):
            prepare(data[: int(len(data) * cut)], ImageShape.of(16))


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab", "git lfs pull"),
        (b"<!DOCTYPE html><html><body>Not found</body></html>", "web page"),
        (b"\n <html><body>Sign in</body></html>", "web page"),
    ],
)
def test_what_is_no_image_is_named(data: bytes, named: str) -> None:
    with pytest.raises(ImageError, match=named):
        prepare(data, ImageShape.of(16))
