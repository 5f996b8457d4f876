"""Numbers with a unit or sign are measured numbers, as those without are."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from shards.sources.item import Source
from shards.sources.text.units import find_unit
from support.errors import raises
from support.source_files import by_id, png_files, scan_source, write_files

COUNT = 40


def column_of(folder: Path, cells: list[str], **options: Any) -> Source:
    """Return the source of a table with a column "size", and one of words."""
    write_files(folder, png_files(*(f"{n}.png" for n in range(len(cells)))))
    with (folder / "labels.csv").open("w", newline="") as file:
        rows = [[f"{n}.png", cell, ("blue", "red")[n % 2]] for n, cell in enumerate(cells)]
        csv.writer(file).writerows([["image", "size", "hair"], *rows])
    return scan_source(folder, **options)


@pytest.mark.parametrize(
    ("cells", "unit", "numbers"),
    [
        ([f"{20 + n % 9} years" for n in range(COUNT)], "years", [20, 21]),
        ([f"{20 + n % 9}{' y' if n % 2 else ''}" for n in range(COUNT)], "years", [20, 21]),
        ([f"{1 + n % 2} year{'s' * (n % 2)} old" for n in range(COUNT)], "years", [1, 2]),
        ([f"1,{60 + n % 9} m" for n in range(COUNT)], "m", [1.6, 1.61]),
        ([f"{10 + n % 5}cm" for n in range(COUNT)], "cm", [10, 11]),
        ([f"$1,{200 + n % 9}.00" for n in range(COUNT)], "$", [1200, 1201]),
        ([f"1.{200 + n % 9},50 €" for n in range(COUNT)], "€", [1200.5, 1201.5]),
        ([f"{5 * (n % 9)}%" for n in range(COUNT)], "%", [0, 5]),
        ([f"-{n % 9}.5 °C" for n in range(COUNT)], "°c", [-0.5, -1.5]),
        ([f"5'{n % 12}\"" for n in range(COUNT)], "inches", [60, 61]),
        ([f"{n % 9} floors" for n in range(COUNT)], "floor", [0, 1]),
        (["", "1.5 kg", "NA", *(f"{n % 9} kg" for n in range(COUNT))], "kg", [None, 1.5]),
    ],
)
def test_trap_numbers_with_a_unit_are_no_classes(
    tmp_path: Path, cells: list[str], unit: str, numbers: list[float | None]
) -> None:
    source = column_of(tmp_path, cells)
    use = next(use for use in source.columns if use.name == "size")
    assert not use.becomes and f"with the unit {unit}" in use.why
    assert {tag for item in source.items for tag in item.tags or ()} == {"blue", "red"}
    named = column_of(tmp_path, cells, numbers=("size",))
    items = by_id(named)
    vectors = [items[f"{n}.png"].vector for n in range(2)]
    assert [vector and pytest.approx(vector[0]) for vector in vectors] == numbers
    assert named.problems.counts()[f"number-with-unit {unit}"] == 1


@pytest.mark.parametrize(
    "cells",
    [
        ["iphone 12", "iphone 13"],
        ["3D", "2D"],
        ["1 apple", "2 apples"],
        ["007 m", "008 m"],
        ["S001", "S002"],
        ["1,2", "2,3"],
        ["20-30 years", "30-40 years"],
        ["170 cm", "1.7 m"],
        ["12", "13"],
    ],
)
def test_cells_without_one_unit(cells: list[str]) -> None:
    assert find_unit(dict.fromkeys(cells, 9)) is None


def test_classes_are_named_without_the_unit(tmp_path: Path) -> None:
    source = column_of(tmp_path, [f"{20 + n % 4}{' y' if n % 2 else ''}" for n in range(COUNT)], class_=("size",))
    assert [attribute.values for attribute in source.attributes] == [("20 size", "21 size", "22 size", "23 size")]


def test_message_names_the_cell_as_written(tmp_path: Path) -> None:
    cells = [f"{20 + n % 9} years" for n in range(COUNT)]
    with raises("column-not-numbers", "'About_30'"):
        column_of(tmp_path, [*cells[:5], "About_30", *cells], numbers=("size",))
    with raises("column-not-numbers", "'170 cm'"):
        column_of(tmp_path, ["170 cm", "1.7 m"] * 9, numbers=("size",))


def test_trap_units_in_notes_of_images_are_left_out_too(tmp_path: Path) -> None:
    notes = {f"{n}.json": json.dumps({"tags": ["hat"], "age": f"{20 + n} years"}) for n in range(4)}
    write_files(tmp_path, {**notes, **png_files(*(f"{n}.png" for n in range(4)))})
    source = scan_source(tmp_path, columns=("age",))
    assert {id: item.vector for id, item in by_id(source).items()} == {f"{n}.png": (20.0 + n,) for n in range(4)}
    assert source.problems.counts() == {"number-with-unit years": 1}
