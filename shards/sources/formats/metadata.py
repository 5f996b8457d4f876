"""Hugging Face ImageFolder: metadata.jsonl or metadata.csv next to the images, also one table in each folder."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import InvalidValue, parse_json, sanitize, short_repr
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.matching import image_finder, images_with_rows, match_image
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat
from shards.sources.tables import read_table

TABLES = ("metadata.jsonl", "metadata.csv")

_NAMES = ("file_name", "filename", "image", "file")  # columns that may hold an image's file name


def detect(tree: FileTree, options: ScanOptions) -> str:
    tables = _tables(tree)
    return f"{tables[0]} next to the images" if tree.images and tables else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    names = _tables(tree)
    if not names:
        missing = "contains no metadata.jsonl or metadata.csv; --source metadata needs one"
        raise UserError("format-mismatch", f"{tree.root}: {missing}")
    where = tree.where(names[0] if len(names) == 1 else "")
    rows = RowCollector(where, options, tree.problems, _NAMES)
    find, matched = image_finder(tree.images), dict[str, int]()
    count = 0
    for table in names:
        folder = posixpath.dirname(table)
        for line, row in _rows(tree, table):
            count += 1
            at = f"{table}, line {line}"
            name = next((row[column] for column in _NAMES if isinstance(row.get(column), str)), "")
            name = posixpath.normpath(posixpath.join(folder, sanitize(name.strip()))) if name.strip() else ""
            if image := match_image(find, name, matched, at, tree.problems):
                matched[image] = rows.add(row, at)
    if not matched:
        problems = "; ".join(tree.problems.described(3, 60)[:3]) or "it is empty"
        raise UserError("no-row-matches", f"{where}: none of its {count:,} rows names an image ({problems})")
    return rows.build_source("metadata", images_with_rows(tree, matched))


def _tables(tree: FileTree) -> list[str]:
    """Return the metadata tables of a tree, in all folders."""
    return [name for name in tree.texts if posixpath.basename(name).lower() in TABLES]


def _rows(tree: FileTree, table: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, column → value) of a table; count lines that are not JSON objects.

    Raises:
        UserError: a CSV cannot be read.
    """
    data = tree.text(table)
    if table.lower().endswith(".csv"):
        yield from read_table(tree.where(table), data, (_NAMES,))
        return
    for line, text in enumerate(data.split(b"\n"), 1):
        if not text.strip():
            continue
        try:
            row = parse_json(text)
        except InvalidValue as error:
            tree.problems.add("line-unreadable", f"{table}, line {line}: {error}")
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            tree.problems.add("line-unreadable", f"{table}, line {line}: {short_repr(row)}")


FORMAT = SourceFormat(
    "metadata", "metadata.jsonl or metadata.csv, as in Hugging Face ImageFolder", detect, scan, has_columns=True
)
