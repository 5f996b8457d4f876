"""Which label entries of a run stand for the same as those of another, by the names of attributes and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from shards.dataset.schema import WORDLESS, Attribute, Schema
from shards.vocabulary.spelling import normalise

_NAMED = 6  # labels that a sentence names


@dataclass(frozen=True)
class CarriedLabels:
    """Where the slices of a label axis come from; -1: there is none to carry over.

    Attributes:
        entries: int64 (L,), the entry of the old label for each of the new one.
        attributes: int64 (A,), the same for attributes.
        attribute_of: int64 (L,), the new attribute of each new entry.
        old_sizes: entries and attributes of the old label.
        fresh: names of what is new, of whole attributes ("glasses") or of values ("hair: green").
    """

    entries: np.ndarray
    attributes: np.ndarray
    attribute_of: np.ndarray
    old_sizes: dict[str, int]
    fresh: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both vocabularies are the same, in the same order."""
        sizes = {"entries": len(self.entries), "attributes": len(self.attributes)}
        return sizes == self.old_sizes and np.array_equal(self.entries, np.arange(len(self.entries)))

    def sources(self, per: Literal["entries", "attributes"]) -> np.ndarray:
        """Return where each slice of an axis comes from."""
        return self.entries if per == "entries" else self.attributes

    def without_effect(self, per: Literal["entries", "attributes"]) -> np.ndarray:
        """Return which slices belong to an attribute that is new as a whole, as a mask."""
        new = self.attributes < 0
        return new[self.attribute_of] if per == "entries" else new

    def describe(self) -> str:
        """Return how many columns came over, and which did not."""
        carried = int((self.entries >= 0).sum())
        if not self.fresh:
            return f"all {carried:,} label columns came over by name"
        named = ", ".join(self.fresh[:_NAMED])
        more = f" and {len(self.fresh) - _NAMED:,} more" if len(self.fresh) > _NAMED else ""
        return f"{carried:,} of {len(self.entries):,} label columns came over by name; fresh: {named}{more}"


def match(old: Schema, new: Schema, same_texts: bool) -> CarriedLabels:
    """Find the entries of a new label in an old one.

    An attribute comes over if there is one of its name and kind, and of the same size if it holds numbers; then each of
    its values that has the same name does.

    Args:
        old, new: the schemas.
        same_texts: captions were encoded by the same text encoder.
    """
    places = {(normalise(a.name), a.kind): index for index, a in enumerate(old.attributes)}
    entries = np.full(new.width, -1, np.int64)
    attributes = np.full(len(new.attributes), -1, np.int64)
    fresh: list[str] = []
    for index, attribute in enumerate(new.attributes):
        place = places.get((normalise(attribute.name), attribute.kind), -1)
        found = list(_places_of(attribute, old.attributes[place], same_texts)) if place >= 0 else []
        if not any(number >= 0 for number in found):
            fresh.append(attribute.name)
            continue
        attributes[index] = place
        start = int(new.starts[index])
        entries[start : start + attribute.width] = [n + int(old.starts[place]) if n >= 0 else -1 for n in found]
        fresh += [f"{attribute.name}: {v}" for v, n in zip(attribute.values, found, strict=False) if n < 0]
    return CarriedLabels(
        entries,
        attributes,
        np.repeat(np.arange(len(new.attributes)), new.widths),
        {"entries": old.width, "attributes": len(old.attributes)},
        tuple(fresh),
    )


def _places_of(new: Attribute, old: Attribute, same_texts: bool) -> Iterator[int]:
    """Yield the number of each entry of an attribute in an old one; -1 if it is not there."""
    if new.kind in WORDLESS:
        same = new.size == old.size and (same_texts or new.kind != "text")
        yield from range(new.size) if same else ()
    else:
        yield from (old.values.index(value) if value in old.values else -1 for value in new.values)
