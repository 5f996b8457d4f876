"""Cells as people fill them in: repeated rows, signs, ticks, numbered columns, gaps, broken quotes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files

COUNT = 40
HAIR, MORE = ("blue hair", "red hair"), ("smile", "glasses", "hat")


def table(folder: Path, rows: list[str], name: str = "meta.csv", images: int = COUNT) -> Path:
    """Write a table, and images 0.png, 1.png, …."""
    write_files(folder, png_files(*(f"{n}.png" for n in range(images))))
    return write_files(folder, {name: "\n".join(rows) + "\n"})


def tags_of(n: int) -> str:
    return f"{HAIR[n % 2]}, {MORE[n % 3]}"


@pytest.mark.parametrize("again", [0, COUNT // 4, COUNT])
def test_trap_tags_of_repeated_rows_are_split_and_joined(tmp_path: Path, again: int) -> None:
    rows = [f'{n},"{tags_of(n)}"' for n in range(COUNT)]
    rows += [f'{n},"{tags_of(n)}, {MORE[(n + 1) % 3]}"' for n in range(again)]
    found = tags_by_id(scan_source(table(tmp_path, ["id,tags", *rows], "tags.csv")))
    assert set(found["1.png"] or ()) == {"red hair", "glasses", *(["hat"] if again else [])}
    assert set(found["39.png"] or ()) == {"red hair", "smile", *(["glasses"] if again == COUNT else [])}


def test_rows_that_are_repeated_as_they_are_change_nothing(tmp_path: Path) -> None:
    rows = [f'{n},"{tags_of(n)}"' for n in range(COUNT)]
    once = scan_source(table(tmp_path / "once", ["id,tags", *rows], "tags.csv"))
    twice = scan_source(table(tmp_path / "twice", ["id,tags", *rows, *rows], "tags.csv"))
    assert tags_by_id(once) == tags_by_id(twice)


def denied(folder: Path, column: str) -> list[bool | None]:
    """Return whether images have a tag, by number; None: unknown."""
    source = scan_source(folder)
    items = {int(item.id.partition(".")[0]): item for item in source.items}
    return [
        True if column in (item.tags or ()) else False if column in item.denied else None
        for item in (items[n] for n in sorted(items))
    ]


def test_trap_few_zeros_beside_signs_do_not_make_all_absences_unknown(tmp_path: Path) -> None:
    rows = [
        f"{n}.png,{1 if n % 2 else -1},{1 if n % 3 else -1},{0 if n < 3 else -1 if n % 5 else 1}" for n in range(COUNT)
    ]
    table(tmp_path, ["image,Smiling,Male,Young", *rows])
    assert denied(tmp_path, "smiling")[:4] == [False, True, False, True]
    assert denied(tmp_path, "young")[:6] == [None, None, None, False, False, True]
    assert scan_source(tmp_path).problems.counts()["cell-zero 'Young'"] == 3


def test_where_most_columns_have_zeros_a_negative_cell_is_uncertain(tmp_path: Path) -> None:
    rows = [f"{n}.png,{n % 3 - 1},{(n + 1) % 3 - 1}" for n in range(COUNT)]
    table(tmp_path, ["image,Edema,Fracture", *rows])
    assert denied(tmp_path, "edema")[:3] == [None, False, True]


def test_ticks_are_yes_and_empty_cells_no(tmp_path: Path) -> None:
    rows = [f"{n}.png,{'x' if n % 2 else ''},{'X' if n % 3 else ''}" for n in range(COUNT)]
    table(tmp_path, ["image,smile,hat", *rows])
    assert denied(tmp_path, "smile")[:2] == [False, True] and denied(tmp_path, "hat")[:2] == [False, True]


def test_numbered_columns_of_tags_are_one_list(tmp_path: Path) -> None:
    rows = [f"{n}.png,{HAIR[n % 2]},{MORE[n % 3]},{'' if n % 2 else 'tall'}" for n in range(COUNT)]
    found = tags_by_id(scan_source(table(tmp_path, ["image,tag1,tag2,tag3", *rows])))
    assert found["0.png"] == ("blue hair", "smile", "tall") and found["1.png"] == ("red hair", "glasses")


def test_letters_for_words_have_no_case(tmp_path: Path) -> None:
    rows = [f"{n}.png,{('M', 'F', 'f', ' m')[n % 4]}" for n in range(COUNT)]
    source = scan_source(table(tmp_path, ["image,sex", *rows]))
    assert {item.tags for item in source.items} == {("m",), ("f",)}
    assert source.problems.found["class-names-merged"] == ["F and f", "M and m"]


@pytest.mark.parametrize("gap", ["?", "--", "n.a.", "unknown", "undefined"])
def test_gaps_are_unknown_and_counted(tmp_path: Path, gap: str) -> None:
    rows = [f"{n}.png,{gap if n == 0 else HAIR[n % 2]},{MORE[n % 3]}" for n in range(COUNT)]
    source = scan_source(table(tmp_path, ["image,hair,more", *rows]))
    found = tags_by_id(source)
    assert found["0.png"] == ("smile more",) and "red hair" in (found["1.png"] or ())
    assert source.problems.counts()["cell-not-known 'hair'"] == 1


@pytest.mark.parametrize(
    ("rows", "code", "named"),
    [
        ([f"{n},{tags_of(n)}{', tall' * (n % 3)}" for n in range(COUNT)], "too-many-cells", "line 2"),
        ([f'{n},"{tags_of(n)}{"" if n == 20 else chr(34)}' for n in range(COUNT)], "invalid-csv", "line 21"),
    ],
)
def test_trap_commas_and_quotes_that_are_forgotten_are_named_with_their_line(
    tmp_path: Path, rows: list[str], code: str, named: str
) -> None:
    with raises(code, "tags.csv", named, "quotes"):
        scan_source(table(tmp_path, ["id,tags", *rows], "tags.csv"))


def in_folders(folder: Path, rows: list[str], name: str = "labels.csv") -> Path:
    """Write a table above images in two folders that have the same names in both."""
    write_files(folder, png_files(*(f"{side}/{n}.png" for side in ("x", "y") for n in range(COUNT))))
    return write_files(folder, {name: "\n".join(rows)})


def test_trap_table_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    """The folders are the labels then, but a person may mean the table."""
    rows = [f'{n}.png,"{tags_of(n)}"' for n in range(COUNT)]
    source = scan_source(in_folders(tmp_path, ["image,tags", *rows]))
    assert source.kind == "classes"
    (why,) = source.problems.found["table-unusable"]
    assert why.startswith("labels.csv: its ids fit several images each, such as 'x/0.png' and 'y/0.png' for '0.png'")


def test_spreadsheets_beside_class_folders_are_named(tmp_path: Path) -> None:
    source = scan_source(in_folders(tmp_path, [], "labels.xlsx"))
    assert source.problems.found["table-unusable"] == ["labels.xlsx: a spreadsheet; save it as .csv"]


def in_parts(folder: Path) -> list[str]:
    """Write images that have the same names in train/ and test/, and return rows for those of one part."""
    write_files(folder, png_files(*(f"{part}/{n}.png" for part in ("train", "test") for n in range(COUNT))))
    return ["id,label", *(f"{n},{('cat', 'dog')[n % 2]}" for n in range(COUNT))]


@pytest.mark.parametrize(("options", "code"), [({}, "unclear-source"), ({"table": "labels.csv"}, "no-row-matches")])
def test_ids_that_fit_a_file_in_each_part_are_told(tmp_path: Path, options: dict[str, str], code: str) -> None:
    write_files(tmp_path, {"labels.csv": "\n".join(in_parts(tmp_path))})
    with raises(code, "labels.csv", "test/0.png", "train/0.png"):
        scan_source(tmp_path, **options)


def test_the_part_in_the_name_of_a_table_chooses_the_folder(tmp_path: Path) -> None:
    rows = in_parts(tmp_path)
    write_files(tmp_path, {"trainLabels.csv": "\n".join(rows)})
    found = tags_by_id(scan_source(tmp_path))
    assert (found["train/0.png"], found["train/1.png"], found["test/1.png"]) == (("cat",), ("dog",), None)
    (tmp_path / "trainLabels.csv").rename(tmp_path / "train.csv")
    write_files(tmp_path, {"test.csv": "\n".join([rows[0], *(f"{n},owl" for n in range(COUNT))])})
    found = tags_by_id(scan_source(tmp_path))
    assert (found["train/0.png"], found["test/0.png"]) == (("cat",), ("owl",))


@pytest.mark.parametrize(
    "names",
    [
        ["blight", "rust", "healthy"],
        {"0": "blight", "1": "rust", "2": "healthy"},
        {"healthy": 2, "blight": 0, "rust": 1},
    ],
)
def test_classes_are_named_by_json(tmp_path: Path, names: Any) -> None:
    rows = [f"{n}.png,{n % 3}" for n in range(COUNT)]
    table(tmp_path, ["image_id,label", *rows], "train.csv")
    write_files(tmp_path, {"label_num_to_disease_map.json": json.dumps(names)})
    found = tags_by_id(scan_source(tmp_path))
    assert [found[f"{n}.png"] for n in range(3)] == [("blight",), ("rust",), ("healthy",)]


@pytest.mark.parametrize(
    "other", [["blight"], ["rust", "rust", "rust"], {"0": "blight", "2": "rust"}, [1, 2, 3], "rust", [[]]]
)
def test_json_that_does_not_name_each_class_once_names_none(tmp_path: Path, other: Any) -> None:
    rows = [f"{n}.png,{n % 3}" for n in range(COUNT)]
    table(tmp_path, ["image_id,label", *rows], "train.csv")
    write_files(tmp_path, {"classes.json": json.dumps(other)})
    assert tags_by_id(scan_source(tmp_path))["1.png"] == ("1",)
