"""Alpha: what is transparent has no colour, resizing makes no fringes, and people see a checkerboard."""

from __future__ import annotations

import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image

from shards.dataset import images, transparency
from shards.dataset.image_shape import ImageShape

SIDES = st.integers(1, 24)


def noise(height: int, width: int, seed: int) -> np.ndarray:
    """RGBA noise; a third is transparent, a third opaque, and all of it has colours."""
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 256, (height, width, 4), dtype=np.uint8)
    kind = draw.integers(0, 3, (height, width))
    pixels[..., 3] = np.where(kind == 0, 0, np.where(kind == 1, 255, pixels[..., 3]))
    return pixels


def resized(pixels: np.ndarray, shape: ImageShape, fit: str = "stretch") -> np.ndarray:
    return np.asarray(images.resized(Image.fromarray(pixels), shape, fit))


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99), st.sampled_from(images.FITS))
def test_what_is_transparent_has_no_effect(h: int, w: int, down: int, across: int, seed: int, fit: str) -> None:
    one = noise(h, w, seed)
    other = one.copy()
    other[other[..., 3] == 0] = (0, 255, 0, 0)
    transparency.hide_colours(one)
    transparency.hide_colours(other)
    assert (one == other).all()
    shape = ImageShape(4, down, across)
    assert (resized(one, shape, fit) == resized(other, shape, fit)).all()


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99))
def test_the_weights_alone_hide_the_colours(h: int, w: int, down: int, across: int, seed: int) -> None:
    """As above, before hidden colours are removed: resizing never mixes them in."""
    one = noise(h, w, seed)
    green = one.copy()
    green[green[..., 3] == 0] = (0, 255, 0, 0)
    box = (0.0, 0.0, float(w), float(h))
    some, other = (transparency.resize(Image.fromarray(p), (across, down), box) for p in (one, green))
    assert some.tobytes() == other.tobytes()
    assert not transparency.has_hidden_colours(some)


@given(
    st.tuples(*[st.integers(0, 255)] * 3),
    arrays.arrays(np.uint8, st.tuples(st.integers(2, 20), st.integers(2, 20))),
    st.tuples(SIDES, SIDES),
)
def test_one_flat_colour_stays_the_same_at_every_alpha(
    colour: tuple[int, int, int], alpha: np.ndarray, size: tuple[int, int]
) -> None:
    pixels = np.dstack([np.broadcast_to(np.array(colour, np.uint8), (*alpha.shape, 3)), alpha])
    transparency.hide_colours(pixels)
    found = resized(pixels, ImageShape(4, *size))
    visible = found[found[..., 3] > 0][:, :3].astype(int)
    assert not len(visible) or np.abs(visible - np.array(colour)).max() <= 1


@given(SIDES, SIDES, SIDES, SIDES, st.integers(0, 99), st.sampled_from(["crop", "stretch"]))
def test_opaque_images_are_resized_as_rgb(h: int, w: int, down: int, across: int, seed: int, fit: str) -> None:
    pixels = noise(h, w, seed)
    pixels[..., 3] = 255
    found = resized(pixels, ImageShape(4, down, across), fit)
    assert (found[..., 3] == 255).all()
    assert (found[..., :3] == resized(pixels[..., :3], ImageShape(3, down, across), fit)).all()


def test_resizing_needs_little_memory() -> None:
    """An image that was opened counts its pixels in bytes; a copy in floating point takes four times as much."""
    image = Image.fromarray(noise(600, 700, 0))
    tracemalloc.start()
    try:
        transparency.resize(image, (16, 16), (0, 0, 700, 600))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 * 600 * 700


@given(st.integers(0, 99))
def test_resizing_and_compositing_commute(seed: int) -> None:
    """On black, up to rounding: a sprite drawn smaller looks like the drawing, smaller."""
    coarse = Image.fromarray(noise(6, 6, seed)).resize((48, 48), Image.Resampling.BILINEAR)  # no ringing to clip
    pixels = np.array(coarse)
    transparency.hide_colours(pixels)
    small = resized(pixels, ImageShape(4, 24, 24)).astype(float)
    after = small[..., :3] * small[..., 3:] / 255
    whole = pixels.astype(float)
    before = np.round(whole[..., :3] * whole[..., 3:] / 255).astype(np.uint8)
    assert np.abs(after - resized(before, ImageShape(3, 24, 24)).astype(float)).max() <= 3


def test_no_dark_fringes() -> None:
    """A white disc on nothing: its edges are white, however transparent."""
    y, x = np.mgrid[:64, :64]
    pixels = np.zeros((64, 64, 4), np.uint8)
    pixels[(x - 31.5) ** 2 + (y - 31.5) ** 2 < 900] = 255
    found = resized(pixels, ImageShape(4, 16, 16))
    edge = found[(found[..., 3] > 0) & (found[..., 3] < 255)]
    assert len(edge) > 8 and (edge[:, :3] == 255).all()


def test_a_checkerboard_shows_what_is_transparent() -> None:
    pixels = np.zeros((2, 16, 16, 4), np.uint8)
    pixels[1] = (255, 0, 0, 255)
    shown = transparency.on_checkerboard(pixels)
    assert shown.shape == (2, 16, 16, 3)
    assert (shown[0, :8, :8] == 255).all() and (shown[0, :8, 8:] == 204).all() and (shown[0, 8:, 8:] == 255).all()
    assert (shown[1] == (255, 0, 0)).all()


@given(st.integers(0, 99))
def test_opaque_images_are_shown_as_they_are(seed: int) -> None:
    pixels = noise(5, 7, seed)
    pixels[..., 3] = 255
    assert (transparency.on_checkerboard(pixels) == pixels[..., :3]).all()
    assert (transparency.on_checkerboard(pixels[..., :3]) == pixels[..., :3]).all()
    assert (transparency.on_checkerboard(pixels[..., :1]) == pixels[..., :1]).all()
