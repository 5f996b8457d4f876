"""Combinations of attribute values that occur in a dataset, to score images of new combinations separately.

"blue hair" and "yellow eyes" may each be frequent and never occur together. A generator that draws both has learned
what the words mean, not only which images exist. If a dataset has many images per possible combination, a new
combination is one that no image has. If it has few, almost every combination is new, so new *pairs* of values count.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.dataset.schema import Schema

_IMAGES_PER_COMBINATION = 10  # whole combinations are compared if the dataset has this many images per possible one
_MAX_PAIRED_ATTRIBUTES = 16  # attributes whose pairs are compared: those with the most values


@dataclass(frozen=True)
class Combinations:
    """Combinations of values of exclusive attributes that occur in a dataset.

    Attributes:
        groups: attributes that are combined: all exclusive ones, or each pair of them; empty if there are fewer than
            two.
        seen: for each group the codes of the combinations that occur, int64, sorted.
    """

    schema: Schema
    groups: tuple[tuple[int, ...], ...]
    seen: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, schema: Schema, label: np.ndarray, known: np.ndarray, among: Sequence[int] | None = None
    ) -> Combinations:
        """Collect the combinations in a dataset's labels.

        Args:
            label: float32 (N, L) label vectors.
            known: bool (N, A), which attributes are known.
            among: exclusive attributes to combine; None: all.
        """
        if among is None:
            among = [a for a, attribute in enumerate(schema.attributes) if attribute.kind == "exclusive"]
        groups = tuple(_groups(schema, among, len(label)))
        values = {a: label_values(schema, a, label, known) for group in groups for a in group}
        return cls(schema, groups, tuple(np.unique(_codes(schema, group, values)) for group in groups))

    def unseen(self, label: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return which labels have a combination that does not occur in the dataset.

        Returns:
            new: bool (N,), the label has such a combination.
            decidable: bool (N,), enough of the label is known to tell (labels that are not new included).
        """
        new, decidable = np.zeros(len(label), bool), np.zeros(len(label), bool)
        values = {a: label_values(self.schema, a, label, known) for group in self.groups for a in group}
        for group, seen in zip(self.groups, self.seen, strict=True):
            complete = np.all([values[a] >= 0 for a in group], axis=0)
            decidable |= complete
            new[complete] |= ~np.isin(_codes(self.schema, group, values), seen)
        return new, decidable

    @property
    def whole(self) -> bool:
        """Return whether whole combinations are compared, rather than pairs of values."""
        return len(self.groups) == 1


def label_values(schema: Schema, attribute: int, label: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Return the value of one attribute in each label, int64 (N,): -1 where it is unknown.

    The value of an exclusive attribute is its number in the schema; that of a tag is 1 if present and 0 if absent.
    """
    start = int(schema.starts[attribute])
    entries = label[:, start : start + schema.attributes[attribute].width]
    present, is_known = entries.max(1) > 0.5, np.asarray(known[:, attribute], bool)
    if schema.attributes[attribute].kind == "tag":
        return np.where(is_known, present.astype(np.int64), -1)
    return np.where(is_known & present, entries.argmax(1), -1)


def _groups(schema: Schema, exclusive: Sequence[int], images: int) -> Iterator[tuple[int, ...]]:
    if len(exclusive) < 2:
        return
    possible = 1
    for a in exclusive:
        possible *= schema.attributes[a].width  # a Python integer: no overflow
    if possible * _IMAGES_PER_COMBINATION <= images or len(exclusive) == 2:
        yield tuple(exclusive)
        return
    widest = sorted(exclusive, key=lambda a: (-schema.attributes[a].width, a))[:_MAX_PAIRED_ATTRIBUTES]
    yield from itertools.combinations(sorted(widest), 2)


def _codes(schema: Schema, group: tuple[int, ...], values: dict[int, np.ndarray]) -> np.ndarray:
    """Return one integer per combination of a group's values, int64, for the labels in which all of them are known."""
    complete = np.all([values[a] >= 0 for a in group], axis=0)
    code = np.zeros(int(complete.sum()), np.int64)
    for a in group:
        code = code * schema.attributes[a].width + values[a][complete]
    return code
