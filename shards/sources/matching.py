"""The images of a source, each with the row that was matched with it."""

from __future__ import annotations

from collections.abc import Iterator

from shards.sources.file_tree import FileTree
from shards.sources.item import ImageRef


def images_with_rows(
    tree: FileTree, matched: dict[str, int], what: str = "row"
) -> Iterator[tuple[str, ImageRef, int | None]]:
    """Yield (name, image, row) of all images of a tree; images without a row are counted, and have None as the row."""
    for name, image in tree.images.items():
        if name not in matched:
            tree.problems.add("image-unlabelled", name, detail=what)
        yield name, image, matched.get(name)
