"""Words such as "missing": gaps beside other values, and values beside one other alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.sources.item import Source
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files

COUNT = 20


def scan_column(folder: Path, column: str, values: list[str]) -> Source:
    rows = [f"{n}.png,{values[n % len(values)]},{('a', 'b')[n // 10]}" for n in range(COUNT)]
    write_files(folder, png_files(*(f"{n}.png" for n in range(COUNT))))
    write_files(folder, {"labels.csv": "\n".join([f"image,{column},eyes", *rows])})
    return scan_source(folder)


@pytest.mark.parametrize("gap", ["missing", "Not available", "unlabeled", "Unlabelled", "TBD", "n.d.", "n/d"])
@pytest.mark.parametrize("column", ["hair", "label"])
def test_words_for_a_gap_are_unknown_and_counted(tmp_path: Path, gap: str, column: str) -> None:
    source = scan_column(tmp_path, column, ["blue", gap, "red", "red"])
    noun = "" if column == "label" else " hair"
    found = tags_by_id(source)
    assert set(found["1.png"] or ()) == {"a eyes"} and set(found["0.png"] or ()) == {f"blue{noun}", "a eyes"}
    assert source.problems.counts()[f"cell-not-known '{column}'"] == 5


def test_gaps_beside_yes_and_no(tmp_path: Path) -> None:
    items = by_id(scan_column(tmp_path, "smile", ["yes", "no", "missing"]))
    assert "smile" in (items["0.png"].tags or ()) and items["1.png"].denied == ("smile",)
    assert items["2.png"].tags == ("a eyes",) and items["2.png"].denied == ()


@pytest.mark.parametrize("other", ["intact", "labeled"])
def test_trap_beside_one_other_value_they_are_values(tmp_path: Path, other: str) -> None:
    found = tags_by_id(scan_column(tmp_path, "tooth", [other, "missing"]))
    assert set(found["1.png"] or ()) == {"missing tooth", "a eyes"}


def test_unlabelled_is_a_part(tmp_path: Path) -> None:
    items = by_id(scan_column(tmp_path, "split", ["train", "test", "unlabeled"]))
    assert [items[f"{n}.png"].part for n in range(3)] == ["train", "test", "unlabelled"]
