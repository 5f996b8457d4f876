"""Rows that name no image while images have no row: most often their ids were misread, or are misspelled."""

from __future__ import annotations

import re

from shards.dataset.images import EXTENSIONS
from shards.sources.cells import shorten_names
from shards.sources.file_tree import FileTree

_MANY = 0.05  # of the rows or of the images
_FEW = 2  # that are no reason to ask
_HAS_FILE = re.compile(rf"({'|'.join(map(re.escape, sorted(EXTENSIONS)))})(\W|$)", re.IGNORECASE)


def note_lost_rows(tree: FileTree, where: str, labelled: set[str]) -> None:
    """Note rows that look like those of images but name none, if about as many images have no row.

    If all images have a row, the others are of images that are not here, which is no mistake.

    Args:
        tree: the source's files; its problems have counted the rows.
        where: the table, for people.
        labelled: the images that have a row.
    """
    count = tree.problems.counts().get("row-without-image", 0)
    examples = [name for name in tree.problems.found.get("row-without-image", []) if _looks_meant(tree, name)]
    missing = [name for name in tree.images if name not in labelled]
    lost = min(count, len(missing))
    if not examples or lost <= _FEW or lost <= _MANY * min(len(labelled) + count, len(tree.images)):
        return
    detail = f"{where} that name no image ({shorten_names(examples[:1])}), while {len(missing):,} images have no row"
    tree.problems.add("rows-lost", detail=f"{detail} ({shorten_names(missing[:1])})", count=count)


def _looks_meant(tree: FileTree, id: str) -> bool:
    """Return True if an id has the ending of an image, or begins with the name of one that is here."""
    word, blank, _ = id.partition(" ")
    return bool(_HAS_FILE.search(id)) or bool(blank and tree.image_names.may_name(word))
