"""The shape of images: sides from a size and an aspect, the base that networks double, and what a manifest says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.dataset.image_shape import CHANNELS, ImageShape, manifest_shape
from support.errors import raises


def test_the_size_is_the_longer_side() -> None:
    assert ImageShape.of(64, "rgb", "3:4") == ImageShape(3, 64, 48)
    assert ImageShape.of(64, "rgba", "4:3") == ImageShape(4, 48, 64)
    assert ImageShape.of(64, "grey") == ImageShape(1, 64, 64)
    assert ImageShape.of(96, 3, "4:6") == ImageShape(3, 96, 64)


@given(st.sampled_from(sorted(CHANNELS)), st.integers(1, 9), st.integers(1, 9), st.integers(1, 40))
def test_a_shape_is_found_again_from_its_parts(channels: str, across: int, down: int, times: int) -> None:
    shape = ImageShape(CHANNELS[channels], down * times, across * times)
    assert ImageShape.of(shape.size, channels, shape.aspect) == shape
    assert shape.nbytes == shape.channels * shape.height * shape.width


@given(st.integers(2, 7), st.integers(2, 7), st.integers(0, 8))
def test_networks_double_the_base(down: int, across: int, doublings: int) -> None:
    base = ImageShape(3, down << doublings, across << doublings).base
    if max(down, across) < 4:  # then a multiple of it may be a base
        return
    assert base == (None if down == across and down % 2 else (down, across))


@pytest.mark.parametrize(
    ("width", "height", "base"),
    [
        (64, 64, (4, 4)),
        (96, 96, (6, 6)),
        (40, 40, None),
        (48, 64, (4, 3)),
        (72, 96, None),
        (9, 16, None),
        (16, 64, None),
    ],
)
def test_only_small_bases_are_supported(width: int, height: int, base: tuple[int, int] | None) -> None:
    assert ImageShape(3, height, width).base == base


@pytest.mark.parametrize(("size", "aspect"), [(64, "2:3"), (64, "3"), (64, "0:1"), (64, "a:b"), (64, "3:4 ")])
def test_aspects_without_whole_sides_are_refused(size: int, aspect: str) -> None:
    with pytest.raises(ValueError, match=aspect.strip()):
        ImageShape.of(size, 3, aspect)


def test_a_manifest_without_a_shape_means_square_rgb() -> None:
    assert manifest_shape({"picture_size": 32}, "here") == ImageShape(3, 32, 32)
    assert manifest_shape({"picture_size": 32, "channels": 4, "aspect": "3:4"}, "here") == ImageShape(4, 32, 24)


@pytest.mark.parametrize(
    "wrong",
    [
        {"channels": 2},
        {"channels": "3"},
        {"channels": True},
        {"channels": [3]},
        {"aspect": 1},
        {"picture_size": (1 << 14) + 1},
        {"picture_size": 1 << 60, "channels": 4},
    ],
)
def test_a_manifest_with_another_shape_is_refused(wrong: dict[str, object]) -> None:
    with raises("manifest-invalid", "here"):
        manifest_shape({"picture_size": 32, **wrong}, "here")
