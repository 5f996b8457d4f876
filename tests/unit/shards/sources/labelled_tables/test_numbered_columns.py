"""Numbered columns of words: one list of tags if their values are the same, separate attributes if not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from shards.sources.item import Source
from support.source_files import png_files, scan_source, tags_by_id, write_files

COUNT = 40
TYPES = ("Fire", "Water", "Grass", "Bug")


def scan_rows(folder: Path, header: str, row: Callable[[int], str]) -> Source:
    write_files(folder, png_files(*(f"{n}.png" for n in range(COUNT))))
    table = "\n".join([f"image,{header}", *(f"{n}.png,{row(n)}" for n in range(COUNT))])
    return scan_source(write_files(folder, {"labels.csv": table}))


def two_types(n: int) -> str:
    return f"{TYPES[n % 4]},{('', TYPES[(n + 1) % 4], TYPES[(n + 2) % 4])[n % 3]}"


@pytest.mark.parametrize("header", ["label1,label2", "Type 1,Type 2", "class_1,class_2", "type_1,type_2"])
def test_trap_numbered_columns_with_the_same_values_are_one_list(tmp_path: Path, header: str) -> None:
    found = tags_by_id(scan_rows(tmp_path, header, two_types))
    assert [found[f"{n}.png"] for n in range(3)] == [("fire",), ("water", "grass"), ("grass", "fire")]


def test_the_last_column_of_a_list_may_be_nearly_empty(tmp_path: Path) -> None:
    source = scan_rows(tmp_path, "label1,label2,label3", lambda n: f"{two_types(n)},{'Bug' if n == 4 else ''}")
    assert tags_by_id(source)["4.png"] == ("fire", "water", "bug")


def test_other_columns_stay_attributes_beside_a_list(tmp_path: Path) -> None:
    source = scan_rows(tmp_path, "Type 1,Type 2,hair,Legendary", lambda n: f"{two_types(n)},blue,{n % 2 == 1}")
    found = tags_by_id(source)
    assert found["1.png"] == ("water", "grass", "legendary")
    source = scan_rows(tmp_path, "Type 1,Type 2,hair", lambda n: f"{two_types(n)},{('blue', 'red')[n // 20]}")
    assert set(tags_by_id(source)["1.png"] or ()) == {"water", "grass", "blue hair"}


def test_trap_values_of_their_own_make_numbered_columns_attributes(tmp_path: Path) -> None:
    source = scan_rows(tmp_path, "hair 1,hair 2", lambda n: f"{('blue', 'red')[n % 2]},{('long', 'short')[n // 20]}")
    assert tags_by_id(source)["1.png"] == ("red hair 1", "long hair 2")


def test_trap_two_readers_who_mostly_agree_are_no_list(tmp_path: Path) -> None:
    source = scan_rows(tmp_path, "reader1,reader2", lambda n: f"{TYPES[n % 4]},{TYPES[(n + (n > 36)) % 4]}")
    assert tags_by_id(source)["0.png"] == ("fire reader1", "fire reader2")
