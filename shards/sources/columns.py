"""Further columns of a table (``--columns``), which become attributes that the source itself defines."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.schema import MAX_SIZE, Attribute
from shards.sources.cells import InvalidValue, parse_vector, sanitize, short_repr, shorten_names
from shards.sources.gaps import doubtful_gap, gaps_among, is_empty, is_none, says_nothing
from shards.sources.labelled_tables.yes_no import answer, answers
from shards.sources.spelling import words_by_case
from shards.sources.text.units import find_unit, is_measured
from shards.vocabulary.spelling import normalise

ALL = "all"
MAX_VALUES = 1000  # of a column of words

WORDS, NUMBERS, TAG = "words", "numbers", "tag"  # types of columns

_MAX_COLUMNS = 4096
_MOSTLY_NUMBERS = 0.9  # of a column's cells: its words are mistakes then
_MAX_WORD = 64  # characters of a word in a column

Cell = str | bool | float | tuple[float, ...] | None


class ColumnLabels(NamedTuple):
    """The labels that the columns give to all rows; each list has one entry per row."""

    attributes: tuple[Attribute, ...]
    tags: list[list[str]]
    denied: list[list[str]]
    vectors: list[tuple[float, ...] | None]


class ColumnCollector:
    """Collects the cells of selected columns row by row; the types of the columns are inferred from all rows.

    A column of true and false (or of 0 and 1, or of -1 and 1) is a tag of its name; one of numbers is an entry of
    the vector; one of words is an exclusive attribute. NA, nan, null, unknown, "?" and "-" are empty cells, and so is
    none, except in a column of words, of which it is a value. -1 next to 0 and 1 is unknown. "all" selects every column
    that has one of these types.

    Args:
        where: the table's path, for messages.
        selected: names of columns, or ("all",).
        reserved: columns with another meaning, which "all" does not select.
        kinds: column → its type (`WORDS`, `NUMBERS` or `TAG`), where that is known.
        plain: columns whose values are labels without the column's name after them.
    """

    def __init__(
        self,
        where: str,
        selected: Sequence[str],
        reserved: Iterable[str],
        kinds: Mapping[str, str] | None = None,
        plain: Iterable[str] = (),
    ) -> None:
        self.where, self.kinds, self.plain = where, dict(kinds or {}), frozenset(plain)
        self.everything = tuple(selected) == (ALL,)
        self.reserved = frozenset(reserved)
        self.positions: dict[str, int] = {} if self.everything else {name: i for i, name in enumerate(selected)}
        if not self.everything and len(self.positions) != len(selected):
            raise UserError("repeated-column", f"--columns {','.join(selected)}: names a column twice; name each once")
        self.names: dict[str, None] = {}  # of all columns of the table
        self.rows: list[tuple[Cell, ...]] = []
        self.not_numbers: dict[str, str] = {}  # column → its first cell that is not a number, for messages
        self.measured: dict[str, str] = {}  # column → its first number with a unit

    def __bool__(self) -> bool:
        return self.everything or bool(self.positions)

    def add(self, row: Mapping[str, Any], problems: Problems, at: str) -> None:
        """Collect the cells of one row; ``at`` is its name in reports."""
        if len(self.names) < _MAX_COLUMNS:
            self.names.update(dict.fromkeys(row))
        if not self:
            return
        if self.everything:
            for name in row:
                if name not in self.positions and name not in self.reserved and len(self.positions) < _MAX_COLUMNS:
                    self.positions[name] = len(self.positions)
        cells: list[Cell] = [None] * len(self.positions)
        for name, position in self.positions.items():
            try:
                cells[position] = _cell(row.get(name))
            except InvalidValue as error:
                if not self.everything:
                    problems.add("cell-unreadable", f"{at}: {error}", detail=repr(shorten_names([name])))
            if name not in self.not_numbers and _number(cells[position]) is None and not says_nothing(cells[position]):
                first = self.measured if is_measured(cells[position]) else self.not_numbers
                first.setdefault(name, f"{at} has {short_repr(cells[position])}")
        self.rows.append(tuple(cells))

    def require(self, name: str, option: str) -> None:
        """Raise UserError if the table has no such column; the message names the columns that it has."""
        if name not in self.names:
            columns = shorten_names(self.names, 40) or "none"
            raise UserError(
                "unknown-column", f"{option} {name}: {self.where} has no such column; its columns are: {columns}"
            )

    def labels(self, problems: Problems) -> ColumnLabels:
        """Return the labels of all rows.

        Raises:
            UserError: a column does not exist, has more values than an attribute can have, or has a few words among
                numbers, or two columns have the same name or values.
        """
        count = len(self.rows)
        labels = ColumnLabels((), [[] for _ in range(count)], [[] for _ in range(count)], [None] * count)
        attributes: list[Attribute] = []
        numeric: list[list[Cell]] = []
        for name, position in self.positions.items():
            if not self.everything:
                self.require(name, "--columns" if name not in self.kinds else "--class or --numbers")
            cells = [row[position] if position < len(row) else None for row in self.rows]
            cells = _without_gaps(name, cells, problems)
            cells = _without_unit(name, cells, problems)
            values = [None if says_nothing(value) else value for value in cells]
            kind = self.kinds.get(name, "") if any(value is not None for value in values) else ""
            kind = kind or _kind(values)
            if kind == NUMBERS:
                self._check_numbers(name, values)
                numeric.append(values)
            elif kind == TAG:
                attributes.append(_tag(name, _without_uncertain(name, values, problems), labels, problems))
            elif kind == WORDS:
                if any(value is not None and _number(value) is None for value in values):  # not classes by numbers
                    values = [None if is_empty(value) else value for value in cells]
                if words := self._words(name, _without_negative(name, values, problems)):
                    _note_gaps(name, cells, values, problems)
                    attributes.append(_exclusive(name, values, words, labels))
            elif not kind and not self.everything:
                problems.add("column-empty", shorten_names([name]))
        _check_distinct(self.where, attributes)
        for row, cells in enumerate(zip(*numeric, strict=True)):
            labels.vectors[row] = _concatenated(cells)
        return labels._replace(attributes=tuple(attributes))

    def _check_numbers(self, name: str, values: list[Cell]) -> None:
        """Raise UserError if a column that must have numbers has something else."""
        if any(value is not None and _number(value) is None and not isinstance(value, tuple) for value in values):
            raise UserError(
                "column-not-numbers",
                f"--numbers {shorten_names([name])}: {self.where}: {self._odd_cell(name)}, which is no "
                "number; correct the cell or leave it empty, or use --class",
            )

    def _odd_cell(self, name: str) -> str:
        """Return the first cell that is no number, as it is written, and where it is; one with a unit if need be."""
        return self.not_numbers.get(name) or self.measured.get(name) or "a cell"

    def _words(self, name: str, values: list[Cell]) -> dict[str, str]:
        """Return cell → value of the attribute; empty for free text, which "all" does not select.

        Args:
            name: the column.
            values: its cells.

        Raises:
            UserError: nearly all cells are numbers, or there are too many different words.
        """
        count = sum(v is not None for v in values)
        numbers = sum(_number(v) is not None for v in values) if self.kinds.get(name) != WORDS else -1
        if numbers >= _MOSTLY_NUMBERS * count:
            raise UserError(
                "word-among-numbers",
                f"--columns {shorten_names([name])}: {self.where}: {self._odd_cell(name)}, but {numbers:,} of "
                f"{count:,} cells are numbers; correct the cell or leave it empty, or select columns without this one",
            )
        cells = sorted({_spelled(value) for value in values if value is not None})
        rows = sum(value is not None for value in values)
        is_free_text = len(cells) > MAX_VALUES or any(len(cell) > _MAX_WORD for cell in cells)
        if is_free_text and not self.everything:
            raise UserError(
                "too-many-values",
                f"--columns {shorten_names([name])}: {self.where} has {len(cells):,} different values there, of up to "
                f"{max(map(len, cells))} characters; an attribute has at most {MAX_VALUES:,} values of up to "
                f"{_MAX_WORD} characters",
            )
        if is_free_text or (self.everything and rows > 20 and len(cells) * 2 > rows):
            return {}
        noun = "" if name in self.plain else normalise(sanitize(name))
        words = words_by_case(cells)
        return {cell: sys.intern(_with_noun(word, noun)) for cell, word in words.items() if word}


def _without_gaps(name: str, cells: Sequence[Cell], problems: Problems) -> list[Cell]:
    """Return the cells of a column without words that are gaps beside its other values, and count them."""
    gaps = gaps_among(cells)
    kept: list[Cell] = [None if isinstance(cell, str) and cell.strip().lower() in gaps else cell for cell in cells]
    if gaps:
        problems.add("cell-not-known", detail=repr(shorten_names([name])), count=kept.count(None) - cells.count(None))
    return kept


def _without_unit(name: str, cells: list[Cell], problems: Problems) -> list[Cell]:
    """Return the cells of a column without the unit that its numbers have, if they have one."""
    counts = Counter(cell for cell in cells if isinstance(cell, str) and not says_nothing(cell))
    if not any(map(is_measured, counts)) or not (unit := find_unit(counts)):
        return cells
    problems.add("number-with-unit", f"{shorten_names([name])}: {unit.described}", detail=unit.name)
    return [unit.number(cell) if isinstance(cell, str) else cell for cell in cells]


def _with_noun(word: str, noun: str) -> str:
    return word if not noun or word == noun or word.endswith(f" {noun}") else f"{word} {noun}"


def _without_uncertain(name: str, values: list[Cell], problems: Problems) -> list[Cell]:
    """Return cells of yes and no without -1, if there are 0 too: it means uncertain, or unknown."""
    numbers = {_number(value) for value in values if value is not None and not isinstance(value, bool)}
    if not {0, -1} <= numbers:
        return values
    uncertain = [_number(value) == -1 for value in values]
    problems.add("cell-uncertain", detail=repr(shorten_names([name])), count=sum(uncertain))
    return [None if unsure else value for value, unsure in zip(values, uncertain, strict=True)]


def _without_negative(name: str, values: list[Cell], problems: Problems) -> list[Cell]:
    """Replace -1 by None, in place, in a column of classes that are numbers otherwise; it means no class."""
    numbers = {number for value in {*values} if value is not None and (number := _number(value)) is not None}
    if -1 in numbers and min(numbers) == -1 and len(numbers) > 2 and len(numbers) == len({*values} - {None}):
        problems.add("class-negative", detail=repr(shorten_names([name])), count=sum(_number(v) == -1 for v in values))
        values[:] = [None if _number(value) == -1 else value for value in values]
    return values


def _note_gaps(name: str, cells: Sequence[Cell], values: Sequence[Cell], problems: Problems) -> None:
    """Count the cells of a column of words that may be gaps or values: what they mean, only a person knows."""
    codes = Counter(doubtful_gap(cell) for cell in cells)
    if not any(map(is_none, values)):  # they were read as gaps
        del codes["cell-none"]
    for code in filter(None, codes):
        problems.add(code, detail=repr(shorten_names([name])), count=codes[code])


def _cell(value: Any) -> Cell:
    """Return a cell in the form in which it is kept; raise InvalidValue if it is neither a word nor numbers."""
    if isinstance(value, str):
        return sys.intern(sanitize(value.strip())) or None
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, int | float):
        if isinstance(value, float) and math.isnan(value):
            return None
        return parse_vector([value])[0]
    if isinstance(value, list):
        return parse_vector(value)
    raise InvalidValue(f"{short_repr(value)} is neither a word nor a number")


def _number(value: Cell) -> float | None:
    if isinstance(value, str):
        try:
            number = float(value) if len(value) < 40 and "_" not in value else None
        except ValueError:
            return None
        return number if number is not None and math.isfinite(number) and abs(number) < 3e38 else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _kind(values: list[Cell]) -> str:
    """Return the type of a column: "tag", "numbers" or "words"; "" if it is empty."""
    present = {value for value in values if value is not None}
    if not present:
        return ""
    words = [value for value in present if isinstance(value, str)]
    if all(isinstance(value, bool | str) for value in present) and (not words or answers(words)):
        return TAG
    if any(isinstance(value, tuple) for value in present):
        return NUMBERS
    numbers = {_number(value) for value in present if not isinstance(value, bool)}
    if None in numbers or any(isinstance(value, bool) for value in present):
        return WORDS
    return TAG if numbers <= {-1, 0, 1} else NUMBERS


def _yes(value: Cell, words: Mapping[str, bool | None]) -> bool | None:
    """Return what a cell says, next to words that are answers; None if that is neither yes nor no."""
    if isinstance(value, str) and _number(value) is None:
        return answer(value, words)
    return value is True or _number(value) == 1


def _tag(name: str, values: list[Cell], labels: ColumnLabels, problems: Problems) -> Attribute:
    word = sys.intern(normalise(sanitize(name)))
    words = answers({value for value in values if isinstance(value, str) and _number(value) is None})
    for row, value in enumerate(values):
        if value is None:
            continue
        if (yes := _yes(value, words)) is None:
            problems.add("cell-not-known", detail=repr(shorten_names([name])))
        else:
            (labels.tags if yes else labels.denied)[row].append(word)
    return Attribute(word, "tag", (word,))


def _exclusive(name: str, values: list[Cell], words: dict[str, str], labels: ColumnLabels) -> Attribute:
    for row, value in enumerate(values):
        if value is not None and (word := words.get(_spelled(value))):
            labels.tags[row].append(word)
    return Attribute(normalise(sanitize(name)), "exclusive", tuple(dict.fromkeys(words.values())))


def _spelled(value: Cell) -> str:
    return value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value).lower()


def _concatenated(cells: tuple[Cell, ...]) -> tuple[float, ...] | None:
    """Return all numbers of a row in one vector; None if one is missing."""
    numbers: list[float] = []
    for cell in cells:
        number = _number(cell)
        if isinstance(cell, tuple):
            numbers += cell
        elif number is None:
            return None
        else:
            numbers.append(number)
    return tuple(numbers) if 0 < len(numbers) <= MAX_SIZE else None


def _check_distinct(where: str, attributes: list[Attribute]) -> None:
    """Raise UserError if two columns have the same name or a word in common."""
    owner: dict[str, str] = {}
    names: set[str] = set()
    for attribute in attributes:
        if not attribute.name or attribute.name in names:
            raise UserError(
                "repeated-column",
                f"{where}: two columns are {shorten_names([attribute.name])!r} but for case, spaces and underscores "
                "(or one has no name); rename one, or name those to use with --columns",
            )
        names.add(attribute.name)
        for word in attribute.values:
            if word in owner:
                both = shorten_names([owner[word], attribute.name])
                raise UserError(
                    "repeated-value",
                    f"--columns: the columns {both} of {where} share the value {shorten_names([word])!r}; omit one",
                )
            owner[word] = attribute.name
