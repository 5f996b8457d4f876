"""Images with a tags.csv: the columns id and tags, and others that ``--columns`` can name."""

from __future__ import annotations

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.matching import image_finder, images_with_rows, match_image
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat
from shards.sources.tables import read_table

TABLE = "tags.csv"


def detect(tree: FileTree, options: ScanOptions) -> str:
    return f"a {TABLE}" if tree.images and TABLE in tree.texts else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    where = tree.where(TABLE)
    if TABLE not in tree.texts:
        raise UserError("format-mismatch", f"{where}: missing; --source tags needs it, with the columns id,tags")
    problems, find = tree.problems, image_finder(tree.images)
    rows = RowCollector(where, options, problems, ("id",), classes=False)
    matched: dict[str, int] = {}
    empty = True
    for line, row in read_table(where, tree.text(TABLE), (("id",), ("tags",))):
        empty = False
        if name := match_image(find, row["id"].strip(), matched, f"line {line}", problems):
            matched[name] = rows.add(row, f"line {line}")
    if empty:
        raise UserError("table-empty", f'{where}: no rows below the header; write one per image: id,"tag, tag"')
    if not matched:
        first = problems.named(next(iter(problems.found)), letters=60)
        raise UserError("no-row-matches", f"{where}: none of its ids is an image in {tree.root} (first: {first})")
    return rows.build_source("tags", images_with_rows(tree, matched))


FORMAT = SourceFormat("tags", "a tags.csv with the columns id,tags", detect, scan, has_columns=True)
