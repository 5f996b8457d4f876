"""The part of the dataset that each item belongs to, from the folders (or tars) in its id."""

from __future__ import annotations

from dataclasses import replace

from shards.sources.item import Item, Source
from shards.sources.layout.levels import read_layout


def assign_parts(source: Source) -> None:
    """Set the part of all items of a source that have none, where train, test and the like are in their paths."""
    if any(item.part for item in source.items) or not any("/" in item.id for item in source.items):
        return
    layout = read_layout([item.id for item in source.items])
    if layout.parts:
        source.items = [_with_part(item, layout.of(item.id).part) for item in source.items]


def _with_part(item: Item, part: str | None) -> Item:
    return replace(item, part=part) if part else item
