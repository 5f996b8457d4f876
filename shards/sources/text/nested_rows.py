"""Rows within rows: images that are listed in the row of another image, as variants of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shards.sources.text.dialect import IsImageName

Row = tuple[int, dict[str, Any]]  # line or number of the entry, from 1; column → value


_ENOUGH = 20  # rows from which can be said that a column names each of them
_UNIQUE = 0.95  # of its values differ then


@dataclass(frozen=True)
class Nesting:
    """How the rows of a table hold others.

    Attributes:
        columns: those whose cells hold rows.
        names: those of which (nearly) every row has its own value, such as a name or a number: they say which image the
            outer row is of, and nothing of those within it.
    """

    columns: frozenset[str]
    names: frozenset[str]


def find_nesting(rows: Sequence[Row], is_image_name: IsImageName) -> Nesting | None:
    """Return where rows hold rows of further images; None if they do not.

    A cell that does is a list of objects, or an object of them, that have no other keys than the row itself. In one of
    these keys the row and each object name an image by the name of its file: a number is not enough, since it may be
    that of anything, such as a comment.

    Args:
        rows: of a table.
        is_image_name: says whether a text may be the name of an image of the source.
    """
    nested, other = set[str](), set[str]()
    for _, row in rows:
        for column, cell in row.items():
            if isinstance(cell, dict | list) and cell and column not in other:
                inner = [one for _, one in _entries(cell)]
                (nested if _are_rows(inner, row, is_image_name) else other).add(column)
    nested -= other
    return Nesting(frozenset(nested), _naming_columns(rows)) if nested else None


def with_nested(rows: Iterable[Row], nesting: Nesting) -> Iterator[Row]:
    """Yield each row, followed by those within it, which share its number.

    What an inner row does not say itself is as in the outer one, except what names that. Where the inner rows are an
    object's values, their column becomes that of their keys: ``{"image": "a.png", "skins": {"dark": {"image":
    "b.png"}}}`` has the rows ``{"image": "a.png"}`` and ``{"image": "b.png", "skins": "dark"}``.
    """
    for number, row in rows:
        outer = {column: cell for column, cell in row.items() if column not in nesting.columns}
        shared = {column: cell for column, cell in outer.items() if column not in nesting.names}
        yield number, outer
        for column in row:
            if column in nesting.columns:
                for key, inner in _entries(row[column]):
                    yield number, shared | inner | ({} if key is None else {column: key})


def _naming_columns(rows: Sequence[Row]) -> frozenset[str]:
    values: dict[str, Counter[str]] = {}
    for _, row in rows:
        for column, cell in row.items():
            if cell not in (None, "", [], {}):
                values.setdefault(column, Counter())[str(cell)] += 1
    return frozenset(
        column
        for column, counts in values.items()
        if counts.total() >= _ENOUGH and sum(count == 1 for count in counts.values()) >= _UNIQUE * counts.total()
    )


def _entries(cell: Any) -> list[tuple[str | None, Any]]:
    """Return (key, value) of an object, or the values of a list without keys."""
    if isinstance(cell, dict):
        return list(cell.items())
    return [(None, one) for one in cell] if isinstance(cell, list) else []


def _are_rows(inner: list[Any], outer: dict[str, Any], is_image_name: IsImageName) -> bool:
    if not all(isinstance(one, dict) and one and one.keys() < outer.keys() for one in inner):
        return False
    shared = set.intersection(*(set(one) for one in inner))
    return any(all(_is_file(row[key], is_image_name) for row in (outer, *inner)) for key in shared)


def _is_file(cell: Any, is_image_name: IsImageName) -> bool:
    return isinstance(cell, str) and "." in cell.strip()[1:-1] and is_image_name(cell)
