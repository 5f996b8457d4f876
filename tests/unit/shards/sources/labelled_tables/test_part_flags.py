"""Columns such as is_train: parts of the dataset, not labels."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.source_files import by_id, png_files, scan_source, write_files

COUNT = 12


@pytest.mark.parametrize(
    ("header", "rows", "parts"),
    [
        ("is_valid", ["True", "False"], ["validation", "train"]),
        ("is_train", ["1", "0"], ["train", "test"]),
        ("is_training_image", ["1", "0"], ["train", "test"]),
        ("isTest", ["yes", "no"], ["test", "train"]),
        ("is_train,is_valid,is_test", ["1,0,0", "0,1,0", "0,0,1"], ["train", "validation", "test"]),
        ("is_train,is_valid", ["1,0", "0,1", "0,0", ","], ["train", "validation", "test", None]),
    ],
)
def test_trap_flags_of_parts_are_no_labels(tmp_path: Path, header: str, rows: list[str], parts: list[str]) -> None:
    lines = [f"{n}.png,{('blue', 'red')[n % 2]},{rows[n % len(rows)]}" for n in range(COUNT)]
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    source = scan_source(write_files(tmp_path, {"labels.csv": "\n".join([f"image,hair,{header}", *lines])}))
    items = by_id(source)
    assert [items[f"{n}.png"].part for n in range(len(parts))] == parts
    assert {item.tags for item in source.items} == {("blue",), ("red",)} and not any(i.denied for i in source.items)


def test_valid_in_most_rows_is_neither_a_part_nor_a_label(tmp_path: Path) -> None:
    lines = [f"{n}.png,{('blue', 'red')[n % 2]},{n > 0}" for n in range(COUNT)]
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    source = scan_source(write_files(tmp_path, {"labels.csv": "\n".join(["image,hair,is_valid", *lines])}))
    assert {(item.part, item.tags) for item in source.items} == {(None, ("blue",)), (None, ("red",))}
    assert "usable" in source.columns[2].why
