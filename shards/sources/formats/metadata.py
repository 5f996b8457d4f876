"""Hugging Face ImageFolder: metadata.jsonl, .csv or .parquet next to the images, also one table in each folder."""

from __future__ import annotations

import posixpath

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.labelled_tables.candidates import find_candidates
from shards.sources.labelled_tables.scan import mismatch_error, scan_tables
from shards.sources.options import ScanOptions
from shards.sources.source_format import SourceFormat

TABLES = ("metadata.jsonl", "metadata.csv", "metadata.json", "metadata.tsv", "metadata.parquet")


def detect(tree: FileTree, options: ScanOptions) -> str:
    if not tree.images:
        return ""
    tables = _tables(tree)
    own = [name for name in tables if not name.lower().endswith(".json")]
    if not own and tables and not find_candidates(tree, options, tree.image_names, tables):
        return ""  # a metadata.json may be anything
    return f"{tables[0]} next to the images" if tables else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    names = _tables(tree)
    if not names:
        missing = "contains no metadata.jsonl, .csv or .parquet; --source metadata needs one"
        raise UserError("format-mismatch", f"{tree.root}: {missing}")
    images = tree.image_names
    candidates = find_candidates(tree, options, images, names, enough=0, below=True)
    if not candidates:
        raise mismatch_error(tree, names[0], options, images)
    return scan_tables(tree, [candidates], options, "metadata", images)


def _tables(tree: FileTree) -> list[str]:
    """Return the metadata tables of a tree, in all folders."""
    return [name for name in (*tree.texts, *tree.containers) if posixpath.basename(name).lower() in TABLES]


FORMAT = SourceFormat(
    "metadata", "metadata.jsonl, .csv or .parquet, as in Hugging Face ImageFolder", detect, scan, has_columns=True
)
