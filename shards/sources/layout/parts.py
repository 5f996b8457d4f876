"""Read the part of the dataset, such as train or test, off the folders (or tars) in the ids of items."""

from __future__ import annotations

from dataclasses import replace

from shards.sources.item import Item, Source
from shards.sources.layout.folder_names import TRAIN
from shards.sources.layout.levels import Layout, read_layout


def read_folders(source: Source, in_containers: bool) -> None:
    """Set the part of items whose paths have train, test and the like; count folders that look like unused classes.

    Args:
        source: its items are changed.
        in_containers: True if ids begin with the name of a container rather than with folders that may be classes.
    """
    if not any("/" in item.id for item in source.items):
        return
    layout = read_layout([item.id for item in source.items])
    if layout.parts and not any(item.part for item in source.items):
        source.items = [_with_part(item, layout.of(item.id).part) for item in source.items]
    if not in_containers:
        _note_classes(source, layout)


def _note_classes(source: Source, layout: Layout) -> None:
    classes = {"/".join(folder.labels) for folder in layout.folders.values() if folder.labels}
    outside = any(not folder.labels and folder.part in (None, TRAIN) for folder in layout.folders.values())
    if len(classes) > 1 and not outside:
        for name in sorted(classes):
            source.problems.add("folder-not-read", name)


def _with_part(item: Item, part: str | None) -> Item:
    return replace(item, part=part) if part else item
