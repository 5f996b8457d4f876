"""Images with a tags.csv: a column of ids and one of tags, and others that options can name."""

from __future__ import annotations

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.labelled_tables.candidates import find_candidates
from shards.sources.labelled_tables.scan import mismatch_error, scan_tables
from shards.sources.options import ScanOptions
from shards.sources.source_format import SourceFormat

TABLE = "tags.csv"


def detect(tree: FileTree, options: ScanOptions) -> str:
    return f"a {TABLE}" if tree.images and TABLE in tree.texts else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    if TABLE not in tree.texts:
        where = tree.where(TABLE)
        raise UserError("format-mismatch", f"{where}: missing; --source tags needs it, with the columns id,tags")
    images = tree.image_names
    candidates = find_candidates(tree, options, images, [TABLE], enough=0)
    if not candidates:
        raise mismatch_error(tree, TABLE, options, images)
    return scan_tables(tree, [candidates], options, "tags", images)


FORMAT = SourceFormat("tags", "a tags.csv with the columns id,tags", detect, scan, has_columns=True)
