"""Scanning tables: what is kept of them in memory, and columns that another table adds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from shards.sources.text.tables import Table
from support.source_files import scan_source, tags_by_id

COUNT = 5_000  # images: more than the rows whose facts are gathered at once


class Row(dict[str, Any]):
    """A row that counts itself as long as it is kept."""

    alive = most = 0

    def __init__(self, cells: dict[str, Any]) -> None:
        super().__init__(cells)
        Row.alive += 1
        Row.most = max(Row.most, Row.alive)

    def __del__(self) -> None:
        Row.alive -= 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> None:
    dicts = Table.dicts

    def counting(table: Table) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, row in dicts(table):
            yield number, Row(row)

    monkeypatch.setattr(Table, "dicts", counting)
    monkeypatch.setattr(Row, "most", 0)


def write_table(path: Path, column: str, values: tuple[str, ...]) -> None:
    rows = "".join(f"{n:04}.png,{values[n % len(values)]}\n" for n in range(COUNT))
    path.write_text(f"file,{column}\n{rows}")


@pytest.mark.usefixtures("counted")
def test_rows_of_tables_are_not_kept(tmp_path: Path) -> None:
    for n in range(COUNT):
        (tmp_path / f"{n:04}.png").touch()
    write_table(tmp_path / "hair.csv", "hair", ("blue", "red"))
    write_table(tmp_path / "smiles.csv", "smile", ("yes", "no"))
    source = scan_source(tmp_path)
    assert sorted(tags_by_id(source)["0004.png"] or ()) == ["blue hair", "smile"]
    assert len(source.items) == COUNT
    assert 0 < Row.most < COUNT - 500


def test_skin_tones_of_emoji_packages_are_labelled_as_they_come(tmp_path: Path) -> None:
    images = tmp_path / "img" / "google" / "64"
    images.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    for n in range(30):
        kind = ("hand", "person", "flag")[n % 3]
        tones = {} if kind == "flag" else {tone: {"image": f"{n:x}-{tone.lower()}.png"} for tone in ("1F3FB", "1F3FF")}
        rows.append({"name": f"EMOJI {n}", "image": f"{n:x}.png", "category": kind, "skin_variations": tones})
        for name in (f"{n:x}.png", *(tone["image"] for tone in tones.values())):
            (images / name).touch()
    (tmp_path / "emoji.json").write_text(json.dumps(rows))
    tags = tags_by_id(scan_source(tmp_path))
    assert len(tags) == 70
    assert sorted(tags["img/google/64/1.png"] or ()) == ["person"]
    assert sorted(tags["img/google/64/1-1f3ff.png"] or ()) == ["1f3ff skin variations", "person"]
    assert sorted(tags["img/google/64/2.png"] or ()) == ["flag"]
