"""Tables that count their rows from another number than the images."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files

COUNT = 12
CLASSES = ("cat", "dog", "owl")


def write_table(folder: Path, images: range, rows: range, column: str) -> Path:
    write_files(folder, png_files(*(f"{n:04}.png" for n in images)))
    return write_files(folder, {"labels.csv": "\n".join([f"{column},label", *(f"{n},{CLASSES[n % 3]}" for n in rows)])})


@pytest.mark.parametrize("column", ["", "id"])
@pytest.mark.parametrize(("images", "rows"), [(1, 0), (0, 1)])
def test_trap_rows_counted_from_another_number_are_a_question(
    tmp_path: Path, column: str, images: int, rows: int
) -> None:
    write_table(tmp_path, range(images, COUNT + images), range(rows, COUNT + rows), column)
    with raises("ids-off-by-one", "labels.csv", f"{(COUNT if images else 0):04}.png", "--id"):
        scan_source(tmp_path)


def test_the_option_confirms_the_numbers(tmp_path: Path) -> None:
    write_table(tmp_path, range(1, COUNT + 1), range(COUNT), "id")
    assert tags_by_id(scan_source(tmp_path, id="id"))["0001.png"] == ("dog",)


@pytest.mark.parametrize("rows", [range(1, COUNT + 1), range(1, COUNT), range(2, COUNT + 1)])
def test_rows_that_have_their_images_are_read(tmp_path: Path, rows: range) -> None:
    write_table(tmp_path, range(1, COUNT + 1), rows, "id")
    assert tags_by_id(scan_source(tmp_path))["0002.png"] == ("owl",)
