"""Find families of tags without a common noun: exactly one of them applies to (almost) every image.

"elf", "orc" and "dwarf" exclude each other as the values of one attribute do, and no image lacks all of them. Mutual
exclusion alone is weak evidence, since rare tags never meet by chance. That a set of exclusive tags also covers the
images is strong evidence: a tag that has nothing to do with the set meets one of its members in every image.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

_NOISE = 0.05  # of a tag's images may have another member of its family too
_COVERED = 0.9  # of the images must have a member
_PAIR_COVERED = 0.98  # of the images, for a family of two
_RARER = 3.0  # members meet less than a third as often as expected by chance
_EVIDENCE = 3.0  # meetings that chance would have given a new member: by chance, one in twenty has none
_MAX_TAGS = 2048
_MAX_ROWS = 100_000  # a sample of so many rows decides


class Family(NamedTuple):
    """Tags that exclude each other and cover the images.

    Attributes:
        tags: the members, the most frequent one first.
        covered: fraction of the rows that have a member.
        doubled: fraction of the rows that have several.
    """

    tags: tuple[str, ...]
    covered: float
    doubled: float


class RowSample:
    """A sample of an unknown number of rows: every row, or every second, fourth … one."""

    def __init__(self) -> None:
        self.rows: list[Sequence[str]] = []
        self._step, self._seen = 1, 0

    def add(self, row: Sequence[str]) -> None:
        """Add a row of distinct tags."""
        if self._seen % self._step == 0:
            self.rows.append(row)
            if len(self.rows) > 2 * _MAX_ROWS:
                self.rows, self._step = self.rows[::2], 2 * self._step
        self._seen += 1


def find_families(rows: Sequence[Sequence[str]], tags: Iterable[str]) -> list[Family]:
    """Return disjoint families among the given tags, those with the most frequent tags first.

    Args:
        rows: rows of distinct tags, each with at least one.
        tags: the tags to consider.
    """
    count = len(rows)
    names, member = _member_matrix(rows, tags)
    if len(names) < 2:
        return []
    met = _meetings(member, len(names))
    free = np.ones(len(names), bool)
    families = []
    for seed in range(len(names)):
        if met[seed, seed] * free.sum() < _COVERED * count:
            break  # the remaining tags are too rare to cover the images
        if not free[seed]:
            continue
        group = _grown(seed, met, free, count)
        family = _checked(group, names, member, met, count)
        if family:
            free[group] = False
            families.append(family)
    return families


class _Members(NamedTuple):
    row: np.ndarray  # int64 (M,): row and tag of each entry, in the order of rows
    tag: np.ndarray


def _member_matrix(rows: Sequence[Sequence[str]], tags: Iterable[str]) -> tuple[list[str], _Members]:
    """Return the most frequent tags, and which rows have them."""
    number = {tag: i for i, tag in enumerate(sorted(tags))}
    lengths = [len(row) for row in rows]
    flat = np.fromiter((number.get(tag, -1) for row in rows for tag in row), np.int64, sum(lengths))
    row = np.repeat(np.arange(len(rows)), lengths)
    row, flat = row[flat >= 0], flat[flat >= 0]
    sizes = np.bincount(flat, minlength=len(number))
    kept = [i for i in np.argsort(-sizes, kind="stable")[:_MAX_TAGS].tolist() if sizes[i] >= _EVIDENCE]
    place = np.full(len(number), -1)
    place[kept] = np.arange(len(kept))
    row, tag = row[place[flat] >= 0], place[flat][place[flat] >= 0]
    by_number = list(number)
    return [by_number[i] for i in kept], _Members(row, tag)


def _meetings(member: _Members, tags: int) -> np.ndarray:
    """Return int64 (T, T): the number of rows that have both tags; on the diagonal, those that have the tag."""
    met = np.zeros(tags * tags, np.int64)
    bounds = np.flatnonzero(np.diff(member.row, prepend=-1))
    start = np.repeat(bounds, np.diff(bounds, append=len(member.row)))  # of each entry's row
    place = np.arange(len(member.row)) - start
    for back in range(int(place.max(initial=-1)) + 1):  # pairs of entries that are `back` apart in a row
        later = np.flatnonzero(place >= back)
        met += np.bincount(member.tag[later] * tags + member.tag[later - back], minlength=tags * tags)
    met = met.reshape(tags, tags)
    return met + met.T - np.diag(np.diag(met))


def _grown(seed: int, met: np.ndarray, free: np.ndarray, count: int) -> list[int]:
    """Grow a family from its most frequent tag: add the tag that covers the most further rows, while one fits."""
    size = np.diag(met)
    open_ = free.copy()
    open_[: seed + 1] = False
    noise = _NOISE * size + 1.5 * np.sqrt(
        _NOISE * size
    )  # and the chance that it varies by, which matters for rare tags
    group, overlap, covered = [seed], met[seed].astype(np.float64), float(size[seed])
    while covered < count and open_.any():
        expected = size * (covered / count)
        fits = open_ & (overlap <= noise) & (_RARER * overlap <= expected) & (expected >= _EVIDENCE)
        if not fits.any():
            break
        further = np.where(fits, size - overlap, -1.0)
        best = int(np.argmax(further))
        group.append(best)
        open_[best] = False
        overlap += met[best]
        covered += float(further[best])
    return group


def _checked(group: list[int], names: list[str], member: _Members, met: np.ndarray, count: int) -> Family | None:
    """Return a family if it covers the rows, and if chance could not have kept its members apart."""
    if len(group) < 2:
        return None
    inside = np.zeros(len(names), bool)
    inside[group] = True
    values = np.bincount(member.row[inside[member.tag]], minlength=count)
    covered, doubled = float((values > 0).mean()), float((values > 1).mean())
    size = np.diag(met)[group].astype(np.float64)
    by_chance = (size.sum() ** 2 - (size**2).sum()) / 2 / count  # expected meetings
    if covered < (_COVERED if len(group) > 2 else _PAIR_COVERED) or doubled > _NOISE * covered:
        return None
    if by_chance < 2 * _EVIDENCE:
        return None
    return Family(tuple(names[i] for i in group), covered, doubled)
