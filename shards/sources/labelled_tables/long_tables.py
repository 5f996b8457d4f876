"""Tables with a row per label instead of a row per image: the rows of an image are combined."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from shards.core.problems import Problems
from shards.sources.cells import InvalidValue, shorten_names
from shards.sources.gaps import is_empty, says_nothing
from shards.sources.labelled_tables.column_names import names_label
from shards.sources.labelled_tables.facts import spelled
from shards.sources.tag_cells.dialect import TagDialect

_REPEATED = 0.1  # of the rows name an image that stood before, or else these are mistakes

NumberedRow = tuple[int, dict[str, Any]]
ReadRows = Callable[[], Iterator[NumberedRow]]


def combine_rows(read: ReadRows, id: str, problems: Problems) -> ReadRows:
    """Return what reads one row per image, in which columns of labels that differ between its rows are lists.

    Rows are kept in memory only if they are combined.

    Args:
        read: yields (number, column → cell) of all rows, again at each call.
        id: the column that names the images.
        problems: counts the images whose rows were combined.
    """
    firsts: dict[str, int] = {}
    of, again = list[int](), list[int]()
    for at, (_, row) in enumerate(read()):
        of.append(firsts.setdefault(spelled(row.get(id)), at))
        if of[at] != at and not is_empty(row.get(id)):
            again.append(at)
    if len(again) < _REPEATED * len(of):
        return read
    rows = list(read())
    columns = _varying(rows, of, again, id)
    if not columns:
        return read
    split = {name: _splitter([row.get(name) for _, row in rows]) for name in columns}
    dropped = set(again)
    combined = {
        at: (number, {**row, **{name: [] for name in columns}})
        for at, (number, row) in enumerate(rows)
        if at not in dropped
    }
    for at, (_, row) in enumerate(rows):
        for name in columns:
            cell, found = row.get(name), combined[of[at]][1][name]
            found += [word for word in ([] if says_nothing(cell) else split[name](cell)) if word not in found]
    problems.add("rows-combined", detail=shorten_names(columns), count=len({of[at] for at in again}))
    return lambda: iter(combined.values())


def _splitter(cells: Sequence[Any]) -> Callable[[Any], Sequence[str]]:
    """Return what splits a column's cells: into tags if they hold several, else it leaves them whole."""
    dialect = TagDialect.infer(cells, are_tags=False)

    def split(cell: Any) -> Sequence[str]:
        if isinstance(cell, str) and dialect.has_several:
            with contextlib.suppress(InvalidValue):
                return dialect.tags(cell) or ()
        return [spelled(cell)]

    return split


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
    return all(says_nothing(cell) or (isinstance(cell, str) and not _is_number(cell)) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
