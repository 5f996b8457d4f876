"""Columns of yes and no, in the words of several languages."""

from __future__ import annotations

from pathlib import Path

import pytest

from shards.sources.item import Source
from support.source_files import by_id, png_files, scan_source, write_files

COUNT = 20


def scan_column(folder: Path, values: list[str]) -> Source:
    rows = [f"{n}.png,{values[n % len(values)]},{('blue', 'red')[n // 10]}" for n in range(COUNT)]
    write_files(folder, png_files(*(f"{n}.png" for n in range(COUNT))))
    return scan_source(write_files(folder, {"labels.csv": "\n".join(["file,glasses,hair", *rows])}))


@pytest.mark.parametrize(
    ("yes", "no"),
    [
        ("ja", "nein"),
        ("Ja", "Nee"),
        ("oui", "non"),
        ("si", "no"),
        ("Si\N{COMBINING ACUTE ACCENT}", "No"),
        ("да", "нет"),
        ("present", "absent"),
        ("with", "without"),
        ("✔", "✘"),
        ("✔\N{VARIATION SELECTOR-16}", "❌"),
        ("✓", "x"),
    ],
)
def test_yes_and_no_in_other_words_are_a_tag(tmp_path: Path, yes: str, no: str) -> None:
    items = by_id(scan_column(tmp_path, [yes, no, ""]))
    assert [set(items[f"{n}.png"].tags or ()) for n in range(3)] == [{"glasses", "blue hair"}, *[{"blue hair"}] * 2]
    assert [items[f"{n}.png"].denied for n in range(3)] == [(), ("glasses",), ()]


@pytest.mark.parametrize("unsure", ["Unsure", "maybe", "?"])
def test_unsure_beside_yes_and_no_is_unknown_and_counted(tmp_path: Path, unsure: str) -> None:
    source = scan_column(tmp_path, ["TRUE", "FALSE", unsure, "TRUE"])
    items = by_id(source)
    assert items["0.png"].tags == ("glasses", "blue hair") and items["1.png"].denied == ("glasses",)
    assert items["2.png"].tags == ("blue hair",) and items["2.png"].denied == ()
    if unsure != "?":
        assert source.problems.counts()["cell-not-known 'glasses'"] == 5


@pytest.mark.parametrize("values", [["no", "sun", "round"], ["present", "broken"], ["with", "round"], ["da", "no"]])
def test_trap_words_of_yes_and_no_beside_others_are_values(tmp_path: Path, values: list[str]) -> None:
    items = by_id(scan_column(tmp_path, values))
    assert set(items["0.png"].tags or ()) == {f"{values[0]} glasses", "blue hair"}


def test_columns_that_an_option_names_are_read_alike(tmp_path: Path) -> None:
    rows = [f"{n}.png,smile,{('ja', 'nein')[n % 2]}" for n in range(COUNT)]
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    write_files(tmp_path, {"tags.csv": "\n".join(["id,tags,glasses", *rows])})
    items = by_id(scan_source(tmp_path, columns=("glasses",)))
    assert items["0.png"].tags == ("smile", "glasses") and items["1.png"].denied == ("glasses",)


def test_columns_of_which_each_row_has_one_yes_are_one_attribute(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{n}.png" for n in range(COUNT))))
    rows = [f"{n}.png,{('ja', 'nein')[n % 2]},{('nein', 'ja')[n % 2]}" for n in range(COUNT)]
    source = scan_source(write_files(tmp_path, {"labels.csv": "\n".join(["file,Katze,Hund", *rows])}))
    assert by_id(source)["1.png"].tags == ("hund",) and source.attributes[0].kind == "exclusive"
