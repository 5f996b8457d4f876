"""Columns that name groups of images, such as those of a patient, and labels that are named like them."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.sources.item import Source
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files

COUNT = 60


def scan_column(folder: Path, column: str, values: list[str]) -> Source:
    """Scan a table of a column and one of hair colours."""
    rows = [f"{n}.png,{values[n % len(values)]},{('blue', 'red')[n // 30]}" for n in range(COUNT)]
    write_files(folder, png_files(*(f"{n}.png" for n in range(COUNT))))
    return scan_source(write_files(folder, {"labels.csv": "\n".join([f"file,{column},hair", *rows])}))


@pytest.mark.parametrize(
    ("column", "values", "label"),
    [
        ("age_group", ["child", "adult", "senior"], "adult age group"),
        ("blood group", ["A", "B", "0", "AB"], "b blood group"),
        ("patient_sex", ["M", "F"], "f patient sex"),
        ("lesion_type", ["nevus", "melanoma"], "melanoma lesion type"),
        ("subject", ["cat", "dog"], "dog subject"),
        ("group", ["control", "treated"], "treated group"),
    ],
)
def test_trap_few_words_are_labels_whatever_the_column_is_named(
    tmp_path: Path, column: str, values: list[str], label: str
) -> None:
    source = scan_column(tmp_path, column, values)
    assert set(tags_by_id(source)["1.png"] or ()) == {label, "blue hair"}
    assert {item.group for item in source.items} == {None}


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("patient_id", [str(n) for n in range(20)]),
        ("PatientID", ["ann", "bob", "cy"]),
        ("subject", ["s01", "s02", "s03"]),
        ("identity", ["7", "8", "9"]),
        ("lesion_code", ["x", "y"]),
        ("person", [f"name {chr(97 + n)}" for n in range(25)]),
    ],
)
def test_ids_and_many_names_are_groups(tmp_path: Path, column: str, values: list[str]) -> None:
    items = by_id(scan_column(tmp_path, column, values))
    assert items["1.png"].group == values[1] and items["1.png"].tags == ("blue",)
