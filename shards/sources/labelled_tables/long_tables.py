"""Tables with a row per label instead of a row per image: the rows of an image are combined."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from shards.core.problems import Problems
from shards.sources.cells import InvalidValue, shorten_names
from shards.sources.gaps import is_empty, says_nothing
from shards.sources.labelled_tables.column_names import names_label, names_tags
from shards.sources.labelled_tables.facts import spelled
from shards.sources.labelled_tables.verdicts import Verdict, find_verdict, reads_answers
from shards.sources.options import ScanOptions
from shards.sources.tag_cells.dialect import TagDialect

_REPEATED = 0.1  # of the rows name an image that stood before, or else these are mistakes

NumberedRow = tuple[int, dict[str, Any]]
ReadRows = Callable[[], Iterator[NumberedRow]]


class Combined(NamedTuple):
    """A table with one row per image.

    Attributes:
        read: yields its rows.
        verdict: the column that says whether the label of a row applies; "" if none does.
        denied: number of a row → the labels that do not apply to its image.
    """

    read: ReadRows
    verdict: str = ""
    denied: Mapping[int, Sequence[str]] = {}


def combine_rows(read: ReadRows, id: str, problems: Problems, where: str, options: ScanOptions) -> Combined:
    """Return the table with one row per image, in which columns of labels that differ between its rows are lists.

    Rows are kept in memory only if they are combined. Where a column says whether the label of its row applies, the
    lists have only labels that do.

    Args:
        read: yields (number, column → cell) of all rows, again at each call.
        id: the column that names the images.
        problems: counts the images whose rows were combined.
        where: the table, for messages.
        options: how the source is read.

    Raises:
        UserError: it is unclear which labels apply.
    """
    firsts: dict[str, int] = {}
    of, again = list[int](), list[int]()
    for at, (_, row) in enumerate(read()):
        of.append(firsts.setdefault(spelled(row.get(id)), at))
        if of[at] != at and not is_empty(row.get(id)):
            again.append(at)
    if len(again) < _REPEATED * len(of):
        return Combined(read)
    rows = list(read())
    varying = _varying(rows, of, again, id)
    cells = {name: [row.get(name) for _, row in rows] for name in rows[0][1] if name != id}
    labels = [name for name in varying if _may_be_label(rows, name) and not reads_answers(cells[name])]
    verdict = find_verdict(cells, labels, varying, where, options) if labels else None
    columns = labels if verdict else [name for name in varying if _may_be_label(rows, name)]
    if not columns:
        return Combined(read)
    groups = _Groups(rows, of, {*again}, columns)
    groups.fill(verdict)
    problems.add("rows-combined", detail=shorten_names(columns), count=len({of[at] for at in again}))
    if verdict:
        groups.report(verdict, problems, options.min_weight)
    return Combined(lambda: iter(groups.combined.values()), verdict.column if verdict else "", groups.denied)


class _Groups:
    """Combines the rows of each image, and counts what a verdict decides.

    Attributes:
        combined: position of an image's first row → the row of all of them.
        denied: number of that row → labels that do not apply.
    """

    def __init__(self, rows: Sequence[NumberedRow], of: Sequence[int], again: set[int], columns: Sequence[str]) -> None:
        self.rows, self.of, self.columns = rows, of, columns
        self.split = {name: _splitter([row.get(name) for _, row in rows]) for name in columns}
        self.combined = {
            at: (number, {**row, **{name: [] for name in columns}})
            for at, (number, row) in enumerate(rows)
            if at not in again
        }
        self.denied: dict[int, list[str]] = {}
        self.no = self.open = 0  # rows whose label does not apply, or may not

    def fill(self, verdict: Verdict | None) -> None:
        """Add the labels of all rows to those of their images."""
        for at, (_, row) in enumerate(self.rows):
            applies = verdict.says(row.get(verdict.column)) if verdict else True
            if applies:
                self._add(at, self.combined[self.of[at]][1])
            elif applies is None:
                self.open += 1
            else:
                self.no += 1
                self._deny(at)

    def report(self, verdict: Verdict, problems: Problems, limit: float) -> None:
        """Say how many labels do not apply, and leave those out that apply by another row of the image."""
        name = shorten_names([verdict.column])
        if verdict.is_score:
            self.denied = {}
            problems.add("tags-light", detail=f"{limit:g}", count=self.no)
        else:
            problems.add("rows-denied", detail=name, count=self.no)
        if self.open:
            problems.add("rows-undecided", detail=name, count=self.open)
        present = {number: self._words(row) for number, row in self.combined.values() if number in self.denied}
        both = {number for number, words in self.denied.items() if not present[number].isdisjoint(words)}
        if both:
            problems.add("rows-conflicting", detail=name, count=len(both))
        self.denied = {
            number: [word for word in words if word not in present[number]] for number, words in self.denied.items()
        }

    def _add(self, at: int, combined: dict[str, Any]) -> None:
        for name in self.columns:
            combined[name] += [word for word in self._split(at, name) if word not in combined[name]]

    def _deny(self, at: int) -> None:
        number = self.rows[self.of[at]][0]
        self.denied.setdefault(number, []).extend(word for name in self._named() for word in self._split(at, name))

    def _split(self, at: int, name: str) -> Sequence[str]:
        cell = self.rows[at][1].get(name)
        return [] if says_nothing(cell) else self.split[name](cell)

    def _named(self) -> Sequence[str]:
        """Return the columns that are named like labels, if any: others say where a label comes from."""
        return [name for name in self.columns if names_label(name) or names_tags(name)] or self.columns

    def _words(self, row: Mapping[str, Any]) -> set[str]:
        return {word for name in self.columns for word in row[name]}


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
    """Return the columns that differ between rows of one image."""
    names = [name for name in rows[0][1] if name != id]
    return [name for name in names if any(rows[at][1].get(name) != rows[of[at]][1].get(name) for at in again)]


def _may_be_label(rows: Sequence[NumberedRow], name: str) -> bool:
    """Return True for columns of words, or of labels by their names."""
    return names_label(name) or _are_words(rows, name)


def _are_words(rows: Sequence[NumberedRow], name: str) -> bool:
    cells = (row.get(name) for _, row in rows)
    return all(says_nothing(cell) or (isinstance(cell, str) and not _is_number(cell)) for cell in cells)


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
