"""Rows without an image, and images without a row, are a question where one may be the other."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.packing.labels.doubts import find_doubts
from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from support.source_files import png_files, scan_source, tags_by_id, write_files

NAMES = [f"images/{at:03}.png" for at in range(40)]


def doubts_of(source: Source) -> list[str]:
    """Return the codes of the doubts about a source."""
    return [doubt.code for doubt in find_doubts(source, build_labelling(source, LabelOptions()).schema)]


def table(names: list[str]) -> str:
    return "file,kind\n" + "".join(f"{name},{'cat' if at % 2 else 'dog'}\n" for at, name in enumerate(names))


@pytest.mark.parametrize("file", ["labels.csv", "tags.csv"])
def test_misspelled_ids_are_doubted(tmp_path: Path, file: str) -> None:
    wrong = [name if at % 4 else name.replace(".png", "-a.png") for at, name in enumerate(NAMES)]
    write_files(tmp_path, png_files(*NAMES) | {file: table(wrong).replace("file,kind", "id,tags")})
    source = scan_source(tmp_path)
    assert doubts_of(source) == ["rows-lost"]
    (key,) = (key for key in source.problems.counts() if key.startswith("rows-lost"))
    assert all(word in key for word in (file, "images/000-a.png", "10 images have no row", "images/000.png"))


def test_ids_with_a_word_too_many_are_doubted(tmp_path: Path) -> None:
    wrong = [name.removesuffix(".png") + ("" if at % 4 else " copy") for at, name in enumerate(NAMES)]
    write_files(tmp_path, png_files(*NAMES) | {"labels.csv": table(wrong)})
    assert doubts_of(scan_source(tmp_path)) == ["rows-lost"]


@pytest.mark.parametrize("names", [[*NAMES, *(f"images/{at}x.png" for at in range(30))], NAMES[:20]])
def test_rows_of_images_that_are_not_here_are_no_doubt(tmp_path: Path, names: list[str]) -> None:
    assert doubts_of(scan_source(write_files(tmp_path, png_files(*NAMES) | {"labels.csv": table(names)}))) == []


def test_a_list_of_some_images_asks_before_it_wins_over_class_folders(tmp_path: Path) -> None:
    names = [f"{kind}/{at}.png" for at in range(10) for kind in ("cat", "dog")]
    listed = "".join(f"{name} {('glad', 'sad')[at % 3 == 0]}\n" for at, name in enumerate(names[:15]))
    source = scan_source(write_files(tmp_path, png_files(*names) | {"moods.txt": listed}))
    assert doubts_of(source) == ["images-left-to-folders"]
    assert tags_by_id(scan_source(tmp_path, "classes"))["dog/9.png"] == ("dog",)
    assert doubts_of(scan_source(tmp_path, table="moods.txt")) == []
