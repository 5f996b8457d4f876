"""Labelled grids: the pictures are exactly where their titles say, and titles stay inside the picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFont

from shards.core.errors import Failure
from trainer.generation import image_grid

FONT = ImageFont.load_default(14)


def flat(count: int, side: int) -> np.ndarray:
    """Pictures of one colour each, none of them white: (count, 3, side, side) uint8."""
    colours = np.stack([np.arange(count) * 7 % 200, np.arange(count) * 31 % 200, np.arange(count) * 13 % 200], axis=1)
    return np.broadcast_to(colours[:, :, None, None], (count, 3, side, side)).astype(np.uint8)


def cells(image: Image.Image, colour: np.ndarray) -> np.ndarray:
    """Where pixels have exactly this colour: (H, W) bool."""
    return (np.asarray(image) == colour).all(axis=2)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize(("side", "shown"), [(32, 96), (16, 96), (48, 96), (96, 96), (128, 128)])
def test_small_pictures_are_enlarged_by_whole_pixels(side: int, shown: int) -> None:
    picture = np.random.default_rng(0).integers(0, 200, (1, 3, side, side), dtype=np.uint8)
    image = np.asarray(image_grid.grid(picture, 1))
    rows, columns = np.nonzero((image != 255).any(2))
    part = image[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert part.shape == (shown, shown, 3)
    times = shown // side
    assert np.array_equal(part, np.kron(picture[0].transpose(1, 2, 0), np.ones((times, times, 1), np.uint8)))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 14), columns=st.integers(1, 6), side=st.sampled_from([4, 32]), titled=st.booleans())
def test_every_picture_lies_in_its_row_and_column_whole(count: int, columns: int, side: int, titled: bool) -> None:
    pictures = flat(count, side)
    rows = -(-count // columns)
    titles = [f"row {n}" for n in range(rows)] if titled else []
    image = image_grid.grid(pictures, columns, titles, [f"c{n}" for n in range(columns)] if titled else (), scale=3)
    places = [extent(cells(image, picture[:, 0, 0])) for picture in pictures]
    for number, (top, bottom, left, right) in enumerate(places):
        assert (bottom - top, right - left) == (3 * side, 3 * side)
        row, column = divmod(number, columns)
        assert (top, left) == (places[row * columns][0], places[column][2])


def test_row_titles_are_drawn_beside_their_row_and_column_titles_above() -> None:
    pictures = flat(4, 32)
    image = image_grid.grid(pictures, 2, ["", "red hair"], ["", "noise 2"])
    ink = np.asarray(image.convert("L")) < 128
    top, _, left, _ = extent(cells(image, pictures[0, :, 0, 0]))
    second = extent(cells(image, pictures[2, :, 0, 0]))
    assert not ink[top : top + 96, :left].any()
    assert ink[second[0] : second[1], :left].any()
    column = extent(cells(image, pictures[1, :, 0, 0]))
    assert ink[:top, column[2] : column[3]].any()
    assert not ink[:top, left : column[2]].any()


@given(title=st.text(max_size=300), width=st.integers(40, 250), most=st.integers(1, 5))
def test_titles_keep_to_their_room(title: str, width: int, most: int) -> None:
    lines = image_grid.wrap(image_grid.drawable(title), FONT, width, most)
    assert len(lines) <= most
    assert all(FONT.getlength(line) <= width for line in lines)


def test_short_titles_are_kept_and_long_ones_end_in_an_ellipsis() -> None:
    assert image_grid.wrap("blue hair", FONT, 200, 2) == ["blue hair"]
    assert image_grid.wrap("very long blue hair", FONT, 80, 3) == ["very long", "blue hair"]
    assert image_grid.wrap("blue hair " * 40, FONT, 120, 2)[-1].endswith("…")
    assert image_grid.drawable("Ärger, déjà\nvu, 髪") == "Arger, deja vu, ?"


def test_a_tensor_is_as_good_as_an_array() -> None:
    torch = pytest.importorskip("torch")
    pictures = flat(6, 32)
    assert image_grid.grid(torch.from_numpy(pictures), 3, ["a", "b"]) == image_grid.grid(pictures, 3, ["a", "b"])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 8, 8), np.float32),
        np.zeros((2, 1, 8, 8), np.uint8),
        np.zeros((2, 3, 8, 9), np.uint8),
        flat(0, 8),
    ],
)
def test_what_is_no_batch_of_pictures_is_refused(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="grid"):
        image_grid.grid(wrong, 2)


def test_more_titles_than_rows_are_refused() -> None:
    with pytest.raises(ValueError, match="titles"):
        image_grid.grid(flat(4, 8), 2, ["a", "b", "c"])


def test_a_saved_grid_carries_its_words_and_leaves_nothing_beside(tmp_path: Path) -> None:
    image = image_grid.grid(flat(4, 32), 2, ["blue hair", "red “hair”"], ["one", "two"])
    path = tmp_path / "samples" / "000001.png"
    image_grid.save(image, path)
    image_grid.save(image, path)
    with Image.open(path) as back:
        assert back.info["Description"] == "rows: blue hair; red “hair”. columns: one; two"
        assert np.array_equal(np.asarray(back), np.asarray(image))
    assert list(path.parent.iterdir()) == [path]
    image_grid.save(image, path, captions=["other"])
    with Image.open(path) as back:
        assert back.info["Description"] == "rows: other"


def test_a_grid_that_cannot_be_saved_says_so(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("a file, not a folder")
    with pytest.raises(Failure, match="samples"):
        image_grid.save(image_grid.grid(flat(1, 8), 1), tmp_path / "samples" / "1.png")
