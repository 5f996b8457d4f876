"""Further columns of a table that a person asks for: attributes that the source itself states."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.schema import MAX_SIZE, Attribute, normalise
from shards.sources.cells import NotOne, clean, listed, shown, vector_of

ALL = "all"
MOST_VALUES = 1000  # of a column of words

_YES, _NO = frozenset({"true", "yes"}), frozenset({"false", "no"})
_EMPTY = frozenset({"na", "n/a", "nan", "null", "none"})  # where the others are numbers, or yes and no
_MOST_COLUMNS = 4096
_MOSTLY = 0.9  # of a column that are numbers: the others are mistakes
_MOST_LETTERS = 64  # of a word in a column

Cell = str | bool | float | tuple[float, ...] | None


class Stated(NamedTuple):
    """What the columns say of all rows, each list in the order of the rows."""

    attributes: tuple[Attribute, ...]
    tags: list[list[str]]
    denied: list[list[str]]
    vectors: list[tuple[float, ...] | None]


class Columns:
    """Collects the cells of the columns asked for, row by row; once all are seen, what the columns are is clear.

    A column of true and false (or of 0 and 1, or of -1 and 1) is a tag of its name; one of numbers is an entry of
    the vector; one of words is an exclusive attribute. NA, nan, null and none are empty cells in the first two, and
    words in the last. "all" asks for every column with a meaning of these.

    Args:
        where: the table, for sentences.
        asked: names of columns, or ("all",).
        taken: columns with a meaning of their own, which "all" leaves alone.
    """

    def __init__(self, where: str, asked: Sequence[str], taken: Iterable[str]) -> None:
        self.where = where
        self.everything = tuple(asked) == (ALL,)
        self.taken = frozenset(taken)
        self.places: dict[str, int] = {} if self.everything else {name: i for i, name in enumerate(asked)}
        if not self.everything and len(self.places) != len(asked):
            raise UserError(f"--columns {','.join(asked)}: a column stands twice; name each once")
        self.seen: dict[str, None] = {}
        self.rows: list[tuple[Cell, ...]] = []
        self.odd: dict[str, str] = {}  # column → the first cell that is no number, for a sentence

    def __bool__(self) -> bool:
        return self.everything or bool(self.places)

    def add(self, row: Mapping[str, Any], problems: Problems, at: str) -> None:
        """Take one row's cells."""
        if len(self.seen) < _MOST_COLUMNS:
            self.seen.update(dict.fromkeys(row))
        if not self:
            return
        if self.everything:
            for name in row:
                if name not in self.places and name not in self.taken and len(self.places) < _MOST_COLUMNS:
                    self.places[name] = len(self.places)
        cells: list[Cell] = [None] * len(self.places)
        for name, place in self.places.items():
            try:
                cells[place] = _cell(row.get(name))
            except NotOne as error:
                if not self.everything:
                    problems.add("cell-unreadable", f"{at}: {error}", detail=repr(listed([name])))
            if name not in self.odd and _number(cells[place]) is None and not _empty(cells[place]):
                self.odd[name] = f"{at} has {shown(cells[place])}"
        self.rows.append(tuple(cells))

    def known(self, name: str, option: str) -> None:
        """See that there is such a column.

        Raises:
            UserError: there is not; the sentence names those there are.
        """
        if name not in self.seen:
            raise UserError(
                f"{option} {name}: {self.where} has no such column; it has {listed(self.seen, 40) or 'none'}"
            )

    def stated(self, problems: Problems) -> Stated:
        """What they say.

        Raises:
            UserError: an unknown column, one with more values than an attribute can have, one of numbers with a few
                words in it, or two that say the same.
        """
        count = len(self.rows)
        found = Stated((), [[] for _ in range(count)], [[] for _ in range(count)], [None] * count)
        attributes: list[Attribute] = []
        numeric: list[list[Cell]] = []
        for name, place in self.places.items():
            if not self.everything:
                self.known(name, "--columns")
            values = [row[place] if place < len(row) else None for row in self.rows]
            there = [None if _empty(value) else value for value in values]
            if (kind := _kind(there)) != "words":
                values = there
            if kind == "numbers":
                numeric.append(values)
            elif kind == "tag":
                attributes.append(_tag(name, values, found))
            elif kind == "words" and (words := self._words(name, values, there)):
                attributes.append(_exclusive(name, values, words, found))
            elif not kind and not self.everything:
                problems.add("column-empty", listed([name]))
        _distinct(self.where, attributes)
        for row, cells in enumerate(zip(*numeric, strict=True)):
            found.vectors[row] = _joined(cells)
        return found._replace(attributes=tuple(attributes))

    def _words(self, name: str, values: list[Cell], there: list[Cell]) -> dict[str, str]:
        """Cell → the attribute's word; empty: free text, which "all" leaves alone. ``there``: without NA and the like.

        Raises:
            UserError: nearly all are numbers, or there are too many.
        """
        numbers, count = sum(_number(v) is not None for v in there), sum(v is not None for v in there)
        if numbers >= _MOSTLY * count:
            raise UserError(
                f"--columns {listed([name])}: {self.where}: {self.odd[name]} where {numbers:,} of {count:,} cells are "
                "numbers; correct it or leave it empty, or name the columns without this one"
            )
        cells = sorted({_spelled(value) for value in values if value is not None})
        rows = sum(value is not None for value in values)
        free = len(cells) > MOST_VALUES or any(len(cell) > _MOST_LETTERS for cell in cells)
        if free and not self.everything:
            raise UserError(
                f"--columns {listed([name])}: {self.where} has {len(cells):,} different values in it, up to "
                f"{max(map(len, cells))} letters long; an attribute has at most {MOST_VALUES:,} short ones"
            )
        if free or (self.everything and rows > 20 and len(cells) * 2 > rows):
            return {}
        noun = normalise(clean(name))
        words = {cell: normalise(cell) for cell in cells}
        return {
            cell: sys.intern(word if word == noun or word.endswith(f" {noun}") else f"{word} {noun}")
            for cell, word in words.items()
            if word
        }


def _cell(value: Any) -> Cell:
    """One cell as it is kept; raises NotOne for what is none."""
    if isinstance(value, str):
        return sys.intern(clean(value.strip())) or None
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isnan(value):
            return None
        return vector_of([value])[0]
    if isinstance(value, list):
        return vector_of(value)
    raise NotOne(f"{shown(value)} is neither word nor number")


def _number(value: Cell) -> float | None:
    if isinstance(value, str):
        try:
            number = float(value) if len(value) < 40 and "_" not in value else None
        except ValueError:
            return None
        return number if number is not None and math.isfinite(number) and abs(number) < 3e38 else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _empty(value: Cell) -> bool:
    return value is None or (isinstance(value, str) and value.lower() in _EMPTY)


def _kind(values: list[Cell]) -> str:
    """What a column is: "tag", "numbers" or "words"; "": nothing in it."""
    there = {value for value in values if value is not None}
    if not there:
        return ""
    if all(isinstance(v, bool) or (isinstance(v, str) and v.lower() in _YES | _NO) for v in there):
        return "tag"
    if any(isinstance(value, tuple) for value in there):
        return "numbers"
    numbers = {_number(value) for value in there if not isinstance(value, bool)}
    if None in numbers or any(isinstance(value, bool) for value in there):
        return "words"
    return "tag" if numbers <= {0, 1} or numbers <= {-1, 1} else "numbers"


def _yes(value: Cell) -> bool:
    if isinstance(value, str) and value.lower() in _YES | _NO:
        return value.lower() in _YES
    return value is True or _number(value) == 1


def _tag(name: str, values: list[Cell], found: Stated) -> Attribute:
    word = sys.intern(normalise(clean(name)))
    for row, value in enumerate(values):
        if value is not None:
            (found.tags if _yes(value) else found.denied)[row].append(word)
    return Attribute(word, "tag", (word,))


def _exclusive(name: str, values: list[Cell], words: dict[str, str], found: Stated) -> Attribute:
    for row, value in enumerate(values):
        if value is not None and (word := words.get(_spelled(value))):
            found.tags[row].append(word)
    return Attribute(normalise(clean(name)), "exclusive", tuple(dict.fromkeys(words.values())))


def _spelled(value: Cell) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value).lower()


def _joined(cells: tuple[Cell, ...]) -> tuple[float, ...] | None:
    """The numbers of a row, one after the other; None: one is missing."""
    found: list[float] = []
    for cell in cells:
        number = _number(cell)
        if isinstance(cell, tuple):
            found += cell
        elif number is None:
            return None
        else:
            found.append(number)
    return tuple(found) if 0 < len(found) <= MAX_SIZE else None


def _distinct(where: str, attributes: list[Attribute]) -> None:
    """Raises UserError where two columns make one name or one word."""
    owner: dict[str, str] = {}
    names: set[str] = set()
    for attribute in attributes:
        if not attribute.name or attribute.name in names:
            raise UserError(
                f"--columns: {where} has two columns (or one without a name) for {listed([attribute.name])!r}"
            )
        names.add(attribute.name)
        for word in attribute.values:
            if word in owner:
                both = listed([owner[word], attribute.name])
                raise UserError(f"--columns: {both} of {where} both say {listed([word])!r}; leave one out")
            owner[word] = attribute.name
