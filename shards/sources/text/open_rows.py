"""Open any table that holds one row per image: CSV in any dialect, JSON, JSON lines, Parquet."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from shards.sources.file_tree import FileTree
from shards.sources.options import ScanOptions
from shards.sources.text.dialect import IsImageName
from shards.sources.text.json_rows import LINES, open_json_rows
from shards.sources.text.parquet_rows import ParquetRows
from shards.sources.text.tables import open_table


class Rows(Protocol):
    """The rows of a table; ``str`` says in words how it is written.

    Attributes:
        where: its path, for messages.
        columns: the names of its columns.
        place: what the numbers of rows count: "line", "entry" or "row".
    """

    where: str
    columns: list[str]
    place: str

    def dicts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield (number, column → value) of each row, again at each call."""
        ...


def open_rows(tree: FileTree, name: str, options: ScanOptions, is_image_name: IsImageName | None = None) -> Rows:
    """Return the rows of one of a tree's files; what is left out or interpreted is counted in ``tree.problems``.

    Raises:
        UserError: it cannot be read as a table.
    """
    if name in tree.containers:
        return ParquetRows(tree.containers[name])
    is_json = name.lower().endswith((".json", *LINES))
    read = open_json_rows if is_json else open_table
    return read(
        tree.where(name),
        tree.text(name),
        encoding=options.encoding,
        is_image_name=is_image_name,
        problems=tree.problems,
    )
