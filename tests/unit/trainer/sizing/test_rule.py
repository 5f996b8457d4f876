"""The rule that chooses a size by how many images the time allows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from shards.dataset.image_shape import ImageShape
from trainer import config
from trainer.models import architecture_of
from trainer.networks import build
from trainer.networks.architecture import resolve_levels
from trainer.presets import PRESETS
from trainer.sizing.rule import LONG, MEASURED, MORE_UPDATES, SHORT, Size, candidate, is_better

USUAL = 150_000
OWN = Size((64, 48, 32, 16), 16)
SMALLER, LARGER = Size((32, 24, 16, 8), 16), Size((96, 72, 48, 24), 32)

sizes = st.builds(Size, st.lists(st.integers(1, 64).map(lambda n: 8 * n), min_size=1).map(tuple), st.integers(1, 512))
images = st.floats(1, 1e9)


def test_the_presets_size_is_kept_for_about_its_images() -> None:
    for allowed in (SHORT * USUAL, USUAL / 2, USUAL, 2 * USUAL, LONG * USUAL):
        assert candidate(OWN, allowed, USUAL, 8) is None


def test_a_short_run_may_be_smaller_and_a_long_one_larger() -> None:
    assert candidate(OWN, 0.9 * SHORT * USUAL, USUAL, 8) == SMALLER
    assert candidate(OWN, 1.1 * LONG * USUAL, USUAL, 8) == LARGER
    wide = Size((96, 64, 48, 32, 16), 32)
    assert candidate(wide, 1, USUAL, 8) == Size((48, 32, 24, 16, 8), 32)


def test_a_smaller_size_must_make_more_updates() -> None:
    few = 5_000.0
    assert is_better(OWN, few, SMALLER, few * MORE_UPDATES, USUAL)
    assert not is_better(OWN, few, SMALLER, few * MORE_UPDATES * 0.99, USUAL)


def test_a_larger_size_must_see_the_images_of_the_preset() -> None:
    many = 5.0 * USUAL
    assert is_better(OWN, many, LARGER, USUAL, USUAL)
    assert not is_better(OWN, many, LARGER, 0.99 * USUAL, USUAL)


@given(sizes, images, st.integers(1, 10**7))
def test_candidates_are_valid_and_lie_on_their_side(own: Size, allowed: float, usual: int) -> None:
    other = candidate(own, allowed, usual, 8)
    assume(other is not None and other != own)
    assert other is not None
    assert len(other.channels) == len(own.channels)
    assert all(c > 0 and c % 8 == 0 for c in other.channels)
    pairs = list(zip(other.channels, own.channels, strict=True))
    if allowed < SHORT * usual:
        assert all(theirs <= ours for theirs, ours in pairs)
        assert other.batch == own.batch
    else:
        assert allowed > LONG * usual
        assert all(theirs >= ours for theirs, ours in pairs)
        assert other.batch == 2 * own.batch


@given(sizes, images, images, images, st.integers(1, 10**7))
def test_a_second_measurement_can_only_confirm_a_candidate(
    own: Size, first: float, own_images: float, other_images: float, usual: int
) -> None:
    """A neighbour that came or left between two measurements never makes a long run smaller, or a short one larger."""
    other = candidate(own, first, usual, 8)
    assume(other is not None and other != own)
    assert other is not None
    if is_better(own, own_images, other, other_images, usual):
        assert own_images < SHORT * usual or own_images > LONG * usual
        assert (own_images > LONG * usual) == (other.batch > own.batch or other.channels > own.channels)


@pytest.mark.parametrize(("preset", "pixels"), MEASURED.items())
def test_what_is_known_is_of_presets_whose_networks_have_other_widths(preset: str, pixels: int) -> None:
    """Widths are scaled at the size that was measured, so a wider and a narrower network must exist there."""
    network = config.load(["--preset", preset]).network
    own = resolve_levels(architecture_of(network, ImageShape.of(pixels), (3,)), 1)
    total = PRESETS[preset]["total_images"]
    for images in (1.0, 10.0 * total):
        other = candidate(Size(own.channels, PRESETS[preset]["batch"]), images, total, 8)
        assert other is not None and other.channels != own.channels
        with torch.device("meta"):
            build(replace(own, channels=other.channels))
