"""HuggingFace's ImageFolder: metadata.jsonl or metadata.csv beside the pictures, also one in each split's folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import NotOne, clean, parsed, shown
from shards.sources.file_tree import Tree
from shards.sources.formats.tags import finder, matched, with_rows
from shards.sources.item import Source
from shards.sources.rows import Asked, Rows
from shards.sources.tables import read_table

TABLES = ("metadata.jsonl", "metadata.csv")

_NAMES = ("file_name", "filename", "image", "file")


def tables(tree: Tree) -> list[str]:
    """The tables of metadata in a tree, wherever they lie."""
    return [name for name in tree.texts if posixpath.basename(name).lower() in TABLES]


def read_metadata(tree: Tree, asked: Asked) -> Source:
    names = tables(tree)
    if not names:
        raise UserError(f"{tree.root}: no metadata.jsonl or metadata.csv in it; --source metadata needs one")
    where = tree.where(names[0] if len(names) == 1 else "")
    rows = Rows(where, asked, tree.problems, _NAMES)
    find, found = finder(tree.pictures), dict[str, int]()
    count = 0
    for table in names:
        folder = posixpath.dirname(table)
        for line, row in _rows(tree, table):
            count += 1
            at = f"{table}, line {line}"
            name = next((row[column] for column in _NAMES if isinstance(row.get(column), str)), "")
            name = posixpath.normpath(posixpath.join(folder, clean(name.strip()))) if name.strip() else ""
            if match := matched(find, name, found, at, rows):
                found[match] = rows.add(row, at)
    if not found:
        lost = tree.problems.described(3, 60)
        raise UserError(f"{where}: none of its {count:,} rows names a picture ({'; '.join(lost[:3]) or 'it is empty'})")
    return rows.source("metadata", with_rows(tree, found))


def _rows(tree: Tree, table: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, column → value); lines that are no JSON object are counted.

    Raises:
        UserError: a CSV that cannot be read.
    """
    data = tree.text(table)
    if table.lower().endswith(".csv"):
        yield from read_table(tree.where(table), data, (_NAMES,))
        return
    for line, text in enumerate(data.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            row = parsed(text)
        except NotOne as error:
            tree.problems.add("line-unreadable", f"{table}, line {line}: {error}")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            tree.problems.add("line-unreadable", f"{table}, line {line}: {shown(row)}")
