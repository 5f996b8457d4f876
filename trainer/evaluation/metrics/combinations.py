"""Which combinations of values stand together in a data set, so that pictures of new ones can be scored apart.

"blue hair" and "yellow eyes" may each be common and never meet. A generator that draws both together has learned
what the words mean, not only which pictures there were. Where the whole combinations are few beside the pictures, a new
one is one that no picture has; where they are many, almost every one is new, and what counts is a new *pair* of values.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from shards.dataset.schema import Schema

_PICTURES_EACH = 10  # whole combinations are compared where the data has so many pictures for each that is possible
_MOST_ATTRIBUTES = 16  # whose pairs are looked at: those with the most values


@dataclass(frozen=True)
class Combinations:
    """Combinations of values of exclusive attributes that a data set has.

    Attributes:
        groups: which attributes are looked at together: all exclusive ones, or each pair of them; none where there are
            fewer than two.
        seen: for each group the codes of what was seen, int64, sorted.
    """

    schema: Schema
    groups: tuple[tuple[int, ...], ...]
    seen: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, schema: Schema, label: np.ndarray, known: np.ndarray, among: Sequence[int] | None = None
    ) -> Combinations:
        """Those of a data set's labels.

        Args:
            label: float32 (N, L) label vectors.
            known: bool (N, A) which attributes are known.
            among: exclusive attributes to look at; left out: all.
        """
        if among is None:
            among = [a for a, attribute in enumerate(schema.attributes) if attribute.kind == "exclusive"]
        groups = tuple(_groups(schema, among, len(label)))
        values = {a: said(schema, a, label, known) for group in groups for a in group}
        return cls(schema, groups, tuple(np.unique(_codes(schema, group, values)) for group in groups))

    def unseen(self, label: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Which labels have a combination that the data set lacks.

        Returns:
            bool (N,): it has one; bool (N,): enough is known of it to tell (those that are not new included).
        """
        new, told = np.zeros(len(label), bool), np.zeros(len(label), bool)
        values = {a: said(self.schema, a, label, known) for group in self.groups for a in group}
        for group, seen in zip(self.groups, self.seen, strict=True):
            whole = np.all([values[a] >= 0 for a in group], axis=0)
            told |= whole
            new[whole] |= ~np.isin(_codes(self.schema, group, values), seen)
        return new, told

    @property
    def whole(self) -> bool:
        """Whether whole combinations are compared, rather than pairs of values."""
        return len(self.groups) == 1


def said(schema: Schema, attribute: int, label: np.ndarray, known: np.ndarray) -> np.ndarray:
    """The value of an attribute with words that each label says, int64 (N,); -1 where it is unknown.

    Of an exclusive attribute it is the number of the value; of a tag 1 where it is there, and 0 where it is not.
    """
    start = int(schema.starts[attribute])
    entries = label[:, start : start + schema.attributes[attribute].width]
    there, told = entries.max(1) > 0.5, np.asarray(known[:, attribute], bool)
    if schema.attributes[attribute].kind == "tag":
        return np.where(told, there.astype(np.int64), -1)
    return np.where(told & there, entries.argmax(1), -1)


def _groups(schema: Schema, exclusive: Sequence[int], pictures: int) -> Iterator[tuple[int, ...]]:
    if len(exclusive) < 2:
        return
    possible = 1
    for a in exclusive:
        possible *= schema.attributes[a].width  # a Python integer: no overflow
    if possible * _PICTURES_EACH <= pictures or len(exclusive) == 2:
        yield tuple(exclusive)
        return
    widest = sorted(exclusive, key=lambda a: (-schema.attributes[a].width, a))[:_MOST_ATTRIBUTES]
    yield from itertools.combinations(sorted(widest), 2)


def _codes(schema: Schema, group: tuple[int, ...], values: dict[int, np.ndarray]) -> np.ndarray:
    """One whole number for each label's values of a group, of the labels of which all are known; int64."""
    whole = np.all([values[a] >= 0 for a in group], axis=0)
    code = np.zeros(int(whole.sum()), np.int64)
    for a in group:
        code = code * schema.attributes[a].width + values[a][whole]
    return code
