"""Images without labels."""

from __future__ import annotations

from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return "": labels are never ignored unless ``--source pictures`` says so."""
    return ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    rows = RowCollector(str(tree.root), options, tree.problems)
    return rows.build_source("pictures", [(name, image, None) for name, image in tree.images.items()])


FORMAT = SourceFormat("pictures", "no labels", detect, scan, by_layout=True)
