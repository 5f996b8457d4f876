"""Tables with a row per label instead of a row per image: the rows of an image are combined."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from shards.core.problems import Problems
from shards.sources.cells import shorten_names
from shards.sources.columns import is_empty
from shards.sources.labelled_tables.column_names import names_label
from shards.sources.labelled_tables.facts import spelled

_REPEATED = 0.1  # of the rows name an image that stood before, or else these are mistakes

NumberedRow = tuple[int, dict[str, Any]]


def combine_rows(rows: list[NumberedRow], id: str, problems: Problems) -> list[NumberedRow]:
    """Return one row per image, in which columns of labels that differ between its rows are lists.

    Args:
        rows: (number, column → cell) of all rows.
        id: the column that names the images.
        problems: counts the images whose rows were combined.
    """
    firsts: dict[str, int] = {}
    of = [firsts.setdefault(spelled(row.get(id)), at) for at, (_, row) in enumerate(rows)]
    again = [at for at, first in enumerate(of) if first != at and not is_empty(rows[at][1].get(id))]
    if len(again) < _REPEATED * len(rows):
        return rows
    columns = _varying(rows, of, again, id)
    if not columns:
        return rows
    combined = {first: (number, {**row, **{name: [] for name in columns}}) for first, (number, row) in enumerate(rows)}
    for at, (_, row) in enumerate(rows):
        for name in columns:
            cell, found = row.get(name), combined[of[at]][1][name]
            if not is_empty(cell) and (word := spelled(cell)) not in found:
                found.append(word)
    problems.add("rows-combined", detail=shorten_names(columns), count=len({of[at] for at in again}))
    dropped = set(again)
    return [combined[at] for at in range(len(rows)) if at not in dropped]


def _varying(rows: Sequence[NumberedRow], of: Sequence[int], again: Sequence[int], id: str) -> list[str]:
    """Return the columns of words, or of labels by their names, that differ between rows of one image."""
    found = []
    for name in rows[0][1]:
        differ = name != id and any(rows[at][1].get(name) != rows[of[at]][1].get(name) for at in again)
        if differ and (names_label(name) or _are_words(rows, name)):
            found.append(name)
    return found


def _are_words(rows: Sequence[NumberedRow], name: str) -> bool:
    cells = (row.get(name) for _, row in rows)
    return all(is_empty(cell) or (isinstance(cell, str) and not _is_number(cell)) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
