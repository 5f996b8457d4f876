"""Columns of 0 and 1 of which exactly one is 1 in each row: one exclusive attribute."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from shards.sources.cells import sanitize
from shards.vocabulary.spelling import normalise

_YES = frozenset({"1", "1.0", "true", "yes", "y"})
_FEWEST_ROWS = 4
_MAX_ROWS_OF_CHECK = 1 << 20


def find_one_hot(columns: Sequence[str], rows: Iterable[Mapping[str, Any]], label: str) -> dict[str, list[str]]:
    """Return attribute → its columns, for columns of which each row has exactly one.

    Args:
        columns: columns of yes and no; none has empty cells.
        rows: of the table.
        label: name of an attribute that consists of all columns, if they have no word in common.
    """
    families = _families(list(columns), label)
    counts = dict.fromkeys(families, 0)
    seen = {name: set[str]() for name in families}
    total = 0
    for row in rows:
        total += 1
        for name in list(counts):
            ones = [column for column in families[name] if is_yes(row.get(column))]
            if len(ones) != 1:
                del counts[name]
            else:
                seen[name].add(ones[0])
        if not counts or total > _MAX_ROWS_OF_CHECK:
            break
    if total < _FEWEST_ROWS:
        return {}
    found = {name: families[name] for name in counts if len(seen[name]) > 1}
    everything = next((name for name, members in found.items() if len(members) == len(columns)), None)
    return {everything: found[everything]} if everything is not None else found


def is_yes(value: Any) -> bool:
    """Return True for 1, true and yes."""
    return value is True or str(value).strip().lower() in _YES


def _families(columns: list[str], label: str) -> dict[str, list[str]]:
    """Return name → columns that may be one attribute: all of them, or those with a word in common at one end."""
    families: dict[str, list[str]] = {}
    words = {column: normalise(sanitize(column)).split() for column in columns}
    for end in (-1, 0):
        shared: dict[str, list[str]] = {}
        for column, own in words.items():
            if len(own) > 1:
                shared.setdefault(own[end], []).append(column)
        families |= {name: members for name, members in shared.items() if len(members) > 1 and name not in families}
    if len(columns) > 1 and not any(len(members) == len(columns) for members in families.values()):
        families[label] = columns
    return families
