"""Facts about the cells of a column: how many, how many different, and whether they are numbers, dates or paths."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from shards.sources.gaps import gaps_among, is_empty, is_none
from shards.sources.labelled_tables.column_names import names_part
from shards.sources.labelled_tables.yes_no import answers
from shards.sources.text.units import Unit, find_unit

_MAX_DIFFERENT = 20_000  # values that are counted one by one
_MAX_LETTERS = 200  # of a value that is kept
_AT_ONCE = 4096  # rows whose equal texts are counted together
_SAMPLE = 500  # values that patterns are tried on, and first cells that are kept
_MOST = 0.9  # of the values must fit a pattern

TICKS = frozenset({"x", "✓", "✔", "☑", "*"})  # in a spreadsheet, where an empty cell means no

_PATTERNS = {
    "dates": re.compile(
        r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([T ].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}( .*)?|\d\d?:\d\d(:\d\d)?"
    ),
    "addresses": re.compile(r"(?i)(https?|ftp|s3|gs)://\S+|www\.\S+"),
    "paths": re.compile(  # \alpha is none
        r"(?i)(.*[/\\])?[^/\\]+\.(jpe?g|png|gif|webp|bmp|tiff?|json|txt|xml|npy|mat|mp4)"
        r"|[A-Z]:[/\\].+|/[^/]+/.+|\\\\[^\\]+\\.+"
    ),
    "hashes": re.compile(r"(?i)[0-9a-f]{16,128}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "boxes": re.compile(r"[\[(]?\s*-?\d+(\.\d+)?([\s,;]+-?\d+(\.\d+)?){2,}\s*[\])]?"),
}


class ColumnFacts:
    """Counts the values of one column.

    Attributes:
        name: the column.
        rows: how many there are.
        filled: cells that are not empty.
        lists: cells that are lists or objects.
        number_lists: those of them that hold numbers alone.
        counts: value → cells that have it, of the first 20,000 different values.
        nones: the spellings of "none", which are values in a column of words and gaps in others.
        entries: the same of the words in lists.
        unit: what stands beside its numbers; `counts` are without it.
        gaps: words that say nothing in this column, such as "missing", in lower case.
        first: the first cells, in the order of the rows.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows = self.filled = self.lists = self.number_lists = self.uncounted = 0
        self.counts: Counter[str] = Counter()
        self.nones: Counter[str] = Counter()
        self.entries: Counter[str] = Counter()
        self.unit: Unit | None = None
        self.first: list[Any] = []
        self.gaps: frozenset[str] = frozenset()

    def add(self, value: Any, count: int = 1) -> None:
        self.rows += count
        if isinstance(value, list | dict | tuple):
            is_numbers = bool(value) and all(isinstance(one, int | float) for one in value)
            self.lists += count
            self.number_lists += count if is_numbers else 0
            self.filled += count
            for one in value:
                if isinstance(one, str) and (one in self.entries or len(self.entries) < _MAX_DIFFERENT):
                    self.entries[one[:_MAX_LETTERS]] += count
            return
        if is_empty(value):
            return
        text = spelled(value)[:_MAX_LETTERS]
        if is_none(value):
            self.nones[text] += count
            return
        self.filled += count
        if text in self.counts or len(self.counts) < _MAX_DIFFERENT:
            self.counts[text] += count
        else:
            self.uncounted += count

    def settle(self) -> None:
        """After all cells: decide which say nothing, whether they have a unit, and whether "none" is a value."""
        self.gaps = frozenset() if names_part(self.name) else gaps_among(self.counts)  # "unlabelled" is a part, too
        for text in [text for text in self.counts if text.lower() in self.gaps]:
            self.filled -= self.counts.pop(text)
        self.unit = find_unit(self.counts)
        if self.unit:
            written, self.counts = self.counts, Counter()
            for text, count in written.items():
                self.counts[self.unit.number(text)] += count
        is_of_words = self.counts and self.numbers() is None and not answers(self.counts)
        if is_of_words and not self.looks_like():
            self.counts += self.nones
            self.filled += self.nones.total()
        else:
            self.nones.clear()

    @property
    def different(self) -> int:
        """How many different values there are, at least."""
        return len(self.counts) + (1 if self.uncounted else 0)

    @property
    def is_unique(self) -> bool:
        """True if (nearly) no value occurs twice."""
        once = sum(count == 1 for count in self.counts.values()) + self.uncounted
        return self.filled > 1 and once >= 0.95 * self.filled

    @property
    def repeats(self) -> bool:
        """True if values occur twice or more on average, as classes do."""
        return not self.uncounted and self.filled >= 2 * len(self.counts)

    def numbers(self) -> set[float] | None:
        """Return all values as numbers; None if one of them is none, or there are no values."""
        found: set[float] = set()
        for text in self.counts:
            number = number_of(text)
            if number is None:
                return None
            found.add(number)
        return found or None

    def looks_like(self) -> str:
        """Return "dates", "addresses", "paths", "hashes" or "boxes" if (nearly) all values are such; else ""."""
        sample = list(self.counts)[:_SAMPLE]
        for kind, pattern in _PATTERNS.items():
            if sample and sum(pattern.fullmatch(text) is not None for text in sample) >= _MOST * len(sample):
                return kind
        return ""

    def counts_rows(self) -> bool:
        """Return True if the values are 0, 1, 2, … or 1, 2, 3, … in the order of the rows."""
        numbers = [number_of(text) for text in self.counts]
        first = numbers[0] if numbers else None
        if first not in (0, 1) or self.filled != self.rows or not self.is_unique or len(numbers) < 3:
            return False
        return all(number == at for at, number in enumerate(numbers, int(first)))

    def examples(self, count: int = 3) -> list[str]:
        """Return the most frequent values, for people."""
        return [text[:30] for text, _ in self.counts.most_common(count)]


def gather_facts(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> list[ColumnFacts]:
    """Return the facts of all columns of a table."""
    facts = [ColumnFacts(name) for name in columns]
    left = iter(rows)
    while some := list(islice(left, _AT_ONCE)):
        for fact in facts:
            values = [row.get(fact.name) for row in some]
            fact.first += values[: _SAMPLE - len(fact.first)]
            if all(type(value) is str for value in values):
                for value, count in Counter(values).items():
                    fact.add(value, count)
            else:
                for value in values:
                    fact.add(value)
    for fact in facts:
        fact.settle()
    return facts


def with_names(row: dict[str, Any], names: Mapping[str, Mapping[int, str]]) -> dict[str, Any]:
    """Return a row with the names of classes in place of their numbers."""
    return row | {column: _name(row.get(column), words) for column, words in names.items() if column in row}


def _name(value: Any, words: Mapping[int, str]) -> Any:
    """Return the name of a class, or the names of several; None for -1, which is no class."""
    if isinstance(value, list):
        return [_name(one, words) for one in value]
    if not isinstance(value, int):
        return value
    return words.get(value, None if value == -1 else value)


def without_units(row: Mapping[str, Any], units: Mapping[str, Unit]) -> dict[str, Any]:
    """Return a row with the numbers of cells that have a unit."""
    numbers = {name: unit.number(row[name]) for name, unit in units.items() if isinstance(row.get(name), str)}
    return {**row, **numbers}


def number_of(text: str) -> float | None:
    """Return the finite number that a text is; None if it is none."""
    if len(text) > 40 or "_" in text:
        return None
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def spelled(value: Any) -> str:
    """Return a value as text; whole numbers without a point."""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1 << 53:
        return str(int(value))
    return value.strip() if isinstance(value, str) else str(value)
