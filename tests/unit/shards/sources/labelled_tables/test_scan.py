"""Scanning tables: what is kept of them in memory, and columns that another table adds."""

from __future__ import annotations

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
