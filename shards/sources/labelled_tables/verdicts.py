"""Columns that say whether the label in the same row applies to the image, in tables with a row per label."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.sources.cells import shorten_names
from shards.sources.gaps import says_nothing
from shards.sources.labelled_tables.column_names import names_score, names_verdict
from shards.sources.labelled_tables.facts import number_of, spelled
from shards.sources.labelled_tables.yes_no import answer, answers, numbers_that_answer
from shards.sources.options import ScanOptions

Cells = Mapping[str, Sequence[Any]]  # column → its cells
Says = Callable[[Any], bool | None]  # None: the cell leaves open whether the label applies


class Verdict(NamedTuple):
    """A column that decides which labels of an image apply.

    Attributes:
        column: its name.
        says: cell → whether the label of its row applies.
        is_score: True if it says how sure the label is, so that what is left out is not denied.
    """

    column: str
    says: Says
    is_score: bool = False


def find_verdict(
    cells: Cells, labels: Collection[str], varying: Collection[str], where: str, options: ScanOptions
) -> Verdict | None:
    """Return the column that says whether the labels of its rows apply; None if no column does.

    Args:
        cells: those of all rows of images that may have several, without the column that names the images.
        labels: the columns that hold labels.
        varying: the columns that differ between rows of one image.
        where: the table, for messages.
        options: how the source is read.

    Raises:
        UserError: several columns may be meant, one may be by its cells but not by its name, or a column of scores
            needs ``--min-weight``.
    """
    likely = {name: says for name in cells if name not in labels and (says := reads_answers(cells[name]))}
    known = [name for name in likely if names_verdict(name) or names_score(name)]
    if not known and not options.columns and not options.class_:
        known = [name for name in likely if name in varying]
        if known:
            raise _unclear(known, labels, where)
    if len(known) > 1:
        raise _unclear(known, labels, where)
    if known:
        return Verdict(known[0], likely[known[0]])
    scores = [name for name in cells if name not in labels and names_score(name) and _are_scores(cells[name])]
    return _limited(scores[0], cells[scores[0]], where, options.min_weight) if scores else None


def reads_answers(cells: Sequence[Any]) -> Says | None:
    """Return what reads cells of yes and no; None if a column has others, or only one of both."""
    values = {spelled(cell) for cell in cells if not says_nothing(cell) and not isinstance(cell, list | dict)}
    numbers = {value: number_of(value) for value in values}
    found = answers(values)
    if None not in numbers.values():
        signs = numbers_that_answer(number for number in numbers.values() if number is not None)
        found = {value: signs[number] for value, number in numbers.items() if number in signs}
    if not {True, False} <= {*found.values()}:
        return None
    return lambda cell: None if says_nothing(cell) else answer(spelled(cell), found)


def _are_scores(cells: Sequence[Any]) -> bool:
    """Return True for measured numbers that differ."""
    numbers = {number_of(spelled(cell)) for cell in cells if not says_nothing(cell)}
    return len(numbers) > 1 and None not in numbers


def _limited(name: str, cells: Sequence[Any], where: str, limit: float) -> Verdict:
    """Return the verdict of a column of scores: labels below the limit are left out."""
    if not limit:
        numbers = [number for cell in cells if (number := number_of(spelled(cell))) is not None]
        raise UserError(
            "score-without-limit",
            f"{where}: an image has several rows, whose column {shorten_names([name])} says how sure each label is "
            f"({min(numbers):g} to {max(numbers):g}); set --min-weight to the least that counts",
        )

    def says(cell: Any) -> bool | None:
        number = None if says_nothing(cell) else number_of(spelled(cell))
        return None if number is None else number >= limit

    return Verdict(name, says, is_score=True)


def _unclear(columns: Sequence[str], labels: Collection[str], where: str) -> UserError:
    named, chosen = shorten_names(columns), ",".join(labels)
    return UserError(
        "verdict-unclear",
        f"{where}: an image has several rows, and {named} may say whether the label of a row applies; if one of "
        f"them does, name it present and leave the others out; if none does, choose the labels with --columns {chosen}",
    )
