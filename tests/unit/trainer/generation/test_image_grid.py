"""Image grids: every image is next to its title, and titles stay inside the image."""

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
    """Return images of one colour each, none of them white: (count, 3, side, side) uint8."""
    colours = np.stack([np.arange(count) * 7 % 200, np.arange(count) * 31 % 200, np.arange(count) * 13 % 200], axis=1)
    return np.broadcast_to(colours[:, :, None, None], (count, 3, side, side)).astype(np.uint8)


def cells(image: Image.Image, colour: np.ndarray) -> np.ndarray:
    """Return where pixels have exactly this colour: (H, W) bool."""
    return (np.asarray(image) == colour).all(axis=2)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.nonzero(mask.any(1))[0], np.nonzero(mask.any(0))[0]
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


@pytest.mark.parametrize(("side", "shown"), [(32, 96), (16, 96), (48, 96), (96, 96), (128, 128)])
def test_small_images_are_enlarged_by_an_integer_factor(side: int, shown: int) -> None:
    image = np.random.default_rng(0).integers(0, 200, (1, 3, side, side), dtype=np.uint8)
    sheet = np.asarray(image_grid.grid(image, 1))
    rows, columns = np.nonzero((sheet != 255).any(2))
    part = sheet[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    assert part.shape == (shown, shown, 3)
    times = shown // side
    assert np.array_equal(part, np.kron(image[0].transpose(1, 2, 0), np.ones((times, times, 1), np.uint8)))


@settings(max_examples=25, deadline=None)
@given(count=st.integers(1, 14), columns=st.integers(1, 6), side=st.sampled_from([4, 32]), titled=st.booleans())
def test_every_image_is_complete_in_its_row_and_column(count: int, columns: int, side: int, titled: bool) -> None:
    images = flat(count, side)
    rows = -(-count // columns)
    titles = [f"row {n}" for n in range(rows)] if titled else []
    sheet = image_grid.grid(images, columns, titles, [f"c{n}" for n in range(columns)] if titled else (), scale=3)
    places = [extent(cells(sheet, image[:, 0, 0])) for image in images]
    for number, (top, bottom, left, right) in enumerate(places):
        assert (bottom - top, right - left) == (3 * side, 3 * side)
        row, column = divmod(number, columns)
        assert (top, left) == (places[row * columns][0], places[column][2])


def test_row_titles_are_left_of_their_row_and_column_titles_above() -> None:
    images = flat(4, 32)
    image = image_grid.grid(images, 2, ["", "red hair"], ["", "noise 2"])
    ink = np.asarray(image.convert("L")) < 128
    top, _, left, _ = extent(cells(image, images[0, :, 0, 0]))
    second = extent(cells(image, images[2, :, 0, 0]))
    assert not ink[top : top + 96, :left].any()
    assert ink[second[0] : second[1], :left].any()
    column = extent(cells(image, images[1, :, 0, 0]))
    assert ink[:top, column[2] : column[3]].any()
    assert not ink[:top, left : column[2]].any()


@given(title=st.text(max_size=300), width=st.integers(40, 250), most=st.integers(1, 5))
def test_titles_keep_to_their_width(title: str, width: int, most: int) -> None:
    lines = image_grid.wrap(image_grid.drawable(title), FONT, width, most)
    assert len(lines) <= most
    assert all(FONT.getlength(line) <= width for line in lines)


def test_short_titles_are_kept_and_long_ones_end_in_an_ellipsis() -> None:
    assert image_grid.wrap("blue hair", FONT, 200, 2) == ["blue hair"]
    assert image_grid.wrap("very long blue hair", FONT, 80, 3) == ["very long", "blue hair"]
    assert image_grid.wrap("blue hair " * 40, FONT, 120, 2)[-1].endswith("…")
    assert image_grid.drawable("Ärger, déjà\nvu, 髪") == "Arger, deja vu, ?"


def test_tensor_gives_the_same_grid_as_an_array() -> None:
    torch = pytest.importorskip("torch")
    images = flat(6, 32)
    assert image_grid.grid(torch.from_numpy(images), 3, ["a", "b"]) == image_grid.grid(images, 3, ["a", "b"])


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((2, 3, 8, 8), np.float32),
        np.zeros((2, 2, 8, 8), np.uint8),
        np.zeros((3, 8, 8), np.uint8),
        flat(0, 8),
    ],
)
def test_other_shapes_and_dtypes_are_errors(wrong: np.ndarray) -> None:
    with pytest.raises(ValueError, match="grid"):
        image_grid.grid(wrong, 2)


def test_more_titles_than_rows_are_an_error() -> None:
    with pytest.raises(ValueError, match="titles"):
        image_grid.grid(flat(4, 8), 2, ["a", "b", "c"])


def test_saved_grid_has_its_caption_and_leaves_no_other_file(tmp_path: Path) -> None:
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


def test_grid_that_cannot_be_saved_is_a_failure(tmp_path: Path) -> None:
    (tmp_path / "samples").write_text("a file, not a folder")
    with pytest.raises(Failure, match="samples"):
        image_grid.save(image_grid.grid(flat(1, 8), 1), tmp_path / "samples" / "1.png")


def test_grey_is_drawn_as_equal_colors_and_other_aspects_keep_theirs() -> None:
    image = np.arange(12, dtype=np.uint8).reshape(1, 1, 4, 3) * 20
    sheet = np.asarray(image_grid.grid(image, 1, scale=2))
    drawn = sheet[8:16, 8:14]
    assert sheet.shape == (8 + 8 + 8, 8 + 6 + 8, 3)
    assert np.array_equal(drawn, np.repeat(image[0, 0].repeat(2, 0).repeat(2, 1)[..., None], 3, 2))


def test_a_checkerboard_is_seen_through_transparent_images() -> None:
    image = np.full((1, 4, 16, 24), 90, np.uint8)
    image[0, 3] = np.repeat([0, 255, 102], 8)
    cell = np.asarray(image_grid.grid(image, 1, scale=1))[8:24, 8:32]
    assert (cell[:, 8:16] == 90).all()
    assert cell[0, 0].tolist() == [255] * 3 and cell[8, 0].tolist() == [204] * 3
    assert cell[0, 16].tolist() == [189] * 3 and cell[8, 16].tolist() == [158] * 3  # 0.4 of 90, and 0.6 of the board
    pillow = image_grid.to_pillow(image[0])
    assert pillow.mode == "RGBA" and np.array_equal(np.asarray(pillow).transpose(2, 0, 1), image[0])
    assert image_grid.to_pillow(image[0, :1]).mode == "L"
