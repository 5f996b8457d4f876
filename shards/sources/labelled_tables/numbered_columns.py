"""Numbered columns of words, such as label1 and label2, that are one list of tags."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from shards.sources.gaps import says_nothing
from shards.sources.labelled_tables.column_names import simple, unnumbered
from shards.sources.labelled_tables.facts import ColumnFacts

_SHARED = 0.5  # of the values of a column must occur in the others
_SAME = 0.05  # of the rows may say the same twice: a list does not, but several people who label an image do


def find_lists(facts: Iterable[ColumnFacts]) -> list[list[str]]:
    """Return the groups of columns whose names differ by a number alone, and whose values are mostly the same.

    Columns with values of their own, such as "hair 1" of colours and "hair 2" of lengths, are separate attributes, and
    so are columns that often agree, such as those of two readers.
    """
    families: dict[str, list[ColumnFacts]] = {}
    for fact in facts:
        stem = unnumbered(fact.name)
        if stem != simple(fact.name):
            families.setdefault(stem, []).append(fact)
    return [[fact.name for fact in family] for family in families.values() if _are_list(family)]


def _are_list(family: Sequence[ColumnFacts]) -> bool:
    return len(family) > 1 and all(_shares_values(fact, family) for fact in family) and not _agree(family)


def _shares_values(fact: ColumnFacts, family: Sequence[ColumnFacts]) -> bool:
    others = {text.lower() for other in family if other is not fact for text in other.counts}
    own = {text.lower() for text in fact.counts}
    shared = len(own & others)
    return shared >= _SHARED * min(len(own), len(others)) and shared > 0


def _agree(family: Sequence[ColumnFacts]) -> bool:
    """Return True if the columns often have one value in a row."""
    both = same = 0
    for cells in zip(*(fact.first for fact in family), strict=False):
        words = [str(cell).strip().lower() for cell in cells if not says_nothing(cell)]
        both += len(words) > 1
        same += len(words) > len({*words})
    return same > _SAME * both
