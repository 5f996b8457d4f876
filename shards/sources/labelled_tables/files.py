"""Files that may be tables, and their first rows."""

from __future__ import annotations

import contextlib
import posixpath
from collections.abc import Sequence
from itertools import islice
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.cells import shorten_names
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import head
from shards.sources.options import ScanOptions
from shards.sources.text.dialect import IsImageName
from shards.sources.text.json_rows import LINES, open_json_rows
from shards.sources.text.open_rows import Rows, open_rows
from shards.sources.text.tables import open_table

SAMPLE = 300  # rows that are looked at
_HEAD = 1 << 16  # bytes
_LOOKED_AT = 5  # tables, for a message
_FEWEST = 20  # lines that are looked at, if their columns are so many that they take more bytes,
_LARGEST = 1 << 24  # but not more than this
_ENDINGS = (".csv", ".tsv", ".txt", ".json", *LINES)
_NEVER = (
    "submission",
    "testing_text",
    "readme",
    "license",
    "licence",
    "requirements",
)  # in names of files that label nothing


def table_files(tree: FileTree) -> list[str]:
    """Return the files that may be tables; text files next to images of the same name are not."""
    names = [name for name in tree.texts if name.lower().endswith(_ENDINGS)]
    if names:
        stems = {name.rpartition(".")[0] for name in tree.images}
        names = [name for name in names if (stem := name.rpartition(".")[0]) not in stems and stem not in tree.images]
    names += [name for name in tree.containers if name.lower().endswith(".parquet")]
    return [name for name in names if not any(word in posixpath.basename(name).lower() for word in _NEVER)]


def first_rows(
    tree: FileTree, name: str, options: ScanOptions, is_image: IsImageName
) -> tuple[Rows, list[dict[str, Any]], int]:
    """Return a table, its first rows, and about how many rows it has.

    Raises:
        UserError: it cannot be read as a table.
    """
    if name in tree.containers:
        table = open_rows(tree, name, options)
        rows = [row for _, row in islice(table.dicts(), SAMPLE)]
        return table, rows, len(rows) if len(rows) < SAMPLE else 1 << 40
    data, size = _first_lines(tree, name)
    read = open_json_rows if name.lower().endswith((".json", *LINES)) else open_table
    table = read(tree.where(name), data, encoding=options.encoding, is_image_name=is_image, problems=Problems())
    rows = [row for _, row in islice(table.dicts(), SAMPLE)]
    if len(rows) < SAMPLE and len(data) == size:
        return table, rows, len(rows)
    lines = max(data.count(b"\n"), data.count(b"\r"), len(rows))
    return table, rows, lines * size // max(1, len(data))


def unknown_id_error(tree: FileTree, options: ScanOptions, names: Sequence[str] | None = None) -> UserError | None:
    """Return the error for an --id that is a column of none of the tables; None if it is one, or none can be read."""
    columns: dict[str, list[str]] = {}
    for name in (table_files(tree) if names is None else names)[:_LOOKED_AT] if options.id else ():
        with contextlib.suppress(UserError):
            columns[name] = first_rows(tree, name, options, tree.image_names.may_name)[0].columns
    if not columns or any(options.id in own for own in columns.values()):
        return None
    known = "; ".join(
        f"those of {shorten_names([name])} are: {shorten_names(own, 20)}" for name, own in columns.items()
    )
    return UserError("unknown-column", f"--id {options.id}: no table below {tree.root} has such a column; {known}")


def header(table: Rows) -> tuple[bool, frozenset[str]]:
    """Return whether a table names its columns, and the columns that it does not name."""
    unnamed = frozenset(getattr(table, "unnamed", ()))
    return getattr(table, "has_header", True), unnamed


def _first_lines(tree: FileTree, name: str) -> tuple[bytes, int]:
    """Return the first whole lines of a file and its size; all of a file that cannot be cut at a line."""
    size = _HEAD
    while len(data := head(tree.texts[name], size)) == size < _LARGEST and data.count(b"\n") < _FEWEST:
        size *= 2
    if len(data) < size:
        if not data.strip():
            raise UserError("table-empty", f"{tree.where(name)}: empty")
        return data, len(data)
    text = tree.text(name)
    end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
    if b"\x00" in data or name.lower().endswith(".json") or not end:
        return text, len(text)
    return data[:end], len(text)
