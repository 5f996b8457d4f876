"""Tables of text in any dialect: CSV as programs and spreadsheets write it, and lists with blanks between cells."""

from __future__ import annotations

import csv
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.cells import sanitize, shorten_names
from shards.sources.gaps import says_nothing
from shards.sources.text.dialect import Dialect, IsImageName, Record, infer_dialect, split_lines
from shards.sources.text.encoding import decode
from shards.sources.text.label_words import Words

MAX_COLUMNS = 1 << 16
_MAX_TOO_LONG = 0.2  # of the rows may have too many cells; with more, cells are not quoted at all
_NUMBER = re.compile(r"[-+]?\d+(,\d+)?(?:[eE][-+]?\d+)?")
_DECIMAL_COMMA = re.compile(r"[0-9],[0-9]")
_LISTS = frozenset({"tags", "tag", "labels", "classes", "categories", "attributes", "captions"})


@dataclass
class Table:
    """A table whose rows have been checked.

    Attributes:
        where: its path, for messages.
        columns: their names, all different; columns without a name are "column 1", "column 2", ….
        unnamed: those of them that have no name in the table.
        dialect: how it is written; ``str`` says it in words.
        encoding: by Python's name.
        decimal_commas: columns of numbers with a comma in place of the point; cells are given with a point.
        place: what the numbers of rows count.
    """

    where: str
    columns: list[str]
    unnamed: frozenset[str]
    dialect: Dialect
    encoding: str
    text: str = field(repr=False)
    decimal_commas: frozenset[str] = frozenset()
    place = "line"

    @property
    def has_header(self) -> bool:
        return self.dialect.has_header

    def __str__(self) -> str:
        return f"{self.dialect}, {self.encoding.upper()}"

    def rows(self) -> Iterator[Record]:
        """Yield (line, cells) of each row, with as many cells as there are columns; rows with too many are left out."""
        width = len(self.columns)
        decimal = [number for number, name in enumerate(self.columns) if name in self.decimal_commas]
        for line, cells in _records(self.where, self.text, self.dialect):
            fitted = cells if len(cells) == width else _fitted(cells, width)
            if fitted is None:
                continue
            for number in decimal:
                fitted[number] = fitted[number].replace(",", ".")
            yield line, fitted

    def dicts(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield (line, column → cell) of each row."""
        for line, cells in self.rows():
            yield line, dict(zip(self.columns, cells, strict=True))


def open_table(
    where: str,
    data: bytes,
    *,
    encoding: str | None = None,
    header: bool | None = None,
    is_image_name: IsImageName | None = None,
    problems: Problems | None = None,
) -> Table:
    """Return a table, with all of its rows checked.

    Args:
        where: its path, for messages.
        data: its content.
        encoding: that of ``--encoding``; None: detect it.
        header: True or False if it is known whether the first row names the columns; None: find out.
        is_image_name: says whether a cell may be the name or id of an image of the source.
        problems: counts what is left out or interpreted.

    Raises:
        UserError: the table is empty or no text, its encoding is unclear, quotes are broken, a cell is huge, or many
            rows have too many cells; names the line.
    """
    problems = problems if problems is not None else Problems()
    decoded = decode(data, where, encoding, problems)
    text = sanitize(decoded.text)
    dialect = infer_dialect(text, is_image_name, header)
    if dialect.words == Words.UNCLEAR:
        problems.add("words-unclear", detail=posixpath.basename(where))
    columns, unnamed = _columns(where, text, dialect, problems)
    table = Table(where, columns, unnamed, dialect, decoded.encoding, text)
    table.decimal_commas = _check_rows(table, problems)
    return table


def _records(where: str, text: str, dialect: Dialect) -> Iterator[Record]:
    """Yield (line, cells) of the rows below the header."""
    lines = islice(split_lines(text), dialect.skipped + dialect.comment, None)
    records = dialect.records(lines, dialect.skipped + dialect.comment)
    line = dialect.skipped + 1
    try:
        if dialect.has_header and not dialect.comment:
            next(records, None)
        for line, cells in records:
            yield line, cells
    except csv.Error as error:
        raise UserError(
            "invalid-csv", f"{where}, below line {line}: {error}; check the quotes of the next row"
        ) from None


def _columns(where: str, text: str, dialect: Dialect, problems: Problems) -> tuple[list[str], frozenset[str]]:
    """Return the names of the columns, and those that the table does not name."""
    names = [""] * dialect.width
    if dialect.has_header:
        names = _header(where, text, dialect)
    if len(names) > MAX_COLUMNS:
        raise UserError(
            "too-many-columns",
            f"{where}: {len(names):,} columns, of at most {MAX_COLUMNS:,}; write one row per image, "
            "and its tags in one cell",
        )
    columns: dict[str, int] = {}  # name → how often it stood there
    unnamed: list[str] = []
    for number, name in enumerate(names, 1):
        given = name or f"column {number}"
        if not name:
            unnamed.append(given)
        if given in columns:
            problems.add("column-repeated", given)
        while (shown := given if given not in columns else f"{given} ({columns[given] + 1})") in columns:
            columns[given] += 1
        columns[given] = columns.get(given, 0) + 1
        columns.setdefault(shown, 1)
    return list(columns), frozenset(unnamed)


def _header(where: str, text: str, dialect: Dialect) -> list[str]:
    lines = islice(split_lines(text), dialect.skipped, None)
    if dialect.comment:
        lines = iter([next(lines, "").lstrip("# ")])
    try:
        _, cells = next(dialect.records(lines, dialect.skipped), (0, []))
    except csv.Error as error:
        raise UserError(
            "invalid-csv", f"{where}, line {dialect.skipped + 1}: {error}; check the quotes there"
        ) from None
    if not cells:
        raise UserError("table-empty", f"{where}: empty; it needs a header and a row per image")
    names = [" ".join(cell.split()) for cell in cells]
    return ["", *names] if dialect.unnamed_first else names


def _fitted(cells: list[str], width: int) -> list[str] | None:
    """Return cells with the number of columns: padded, or without empty ones at the end; None if there are too many."""
    if len(cells) < width:
        return cells + [""] * (width - len(cells))
    return None if any(map(str.strip, cells[width:])) else cells[:width]


def _check_rows(table: Table, problems: Problems) -> frozenset[str]:
    """Count rows with too many or too few cells, and return the columns of numbers with decimal commas."""
    width, rows, too_long = len(table.columns), 0, 0
    first_long: tuple[int, int] = (0, 0)
    numbers, name = _Decimals(table), posixpath.basename(table.where)  # no path of this machine
    for line, cells in _records(table.where, table.text, table.dialect):
        rows += 1
        if len(cells) > width and _fitted(cells, width) is None:
            too_long += 1
            first_long = first_long if first_long[0] else (line, len(cells))
            problems.add("row-too-long", f"line {line}", detail=name)
            continue
        if len(cells) < width:
            problems.add("row-too-short", f"line {line}", detail=name)
        numbers.add(cells)
    if too_long > _MAX_TOO_LONG * rows:
        raise UserError(
            "too-many-cells",
            f"{table.where}, line {first_long[0]}: {first_long[1]} cells under {width} columns "
            f"({shorten_names(table.columns)}), as in {too_long:,} of {rows:,} rows; put cells with the delimiter in "
            "quotes",
        )
    found = numbers.columns()
    for column in sorted(found):
        problems.add("decimal-comma", column, detail=name)
    return found


class _Decimals:
    """Finds the columns in which every filled cell is a number, some of them with a decimal comma."""

    def __init__(self, table: Table) -> None:
        self.table = table
        possible = table.dialect.delimiter in ";\t|" and _DECIMAL_COMMA.search(table.text)
        names = enumerate(table.columns) if possible else ()
        self.candidates = {number: False for number, name in names if name.lower() not in _LISTS}

    def add(self, cells: list[str]) -> None:
        for number in list(self.candidates):
            cell = cells[number].strip() if number < len(cells) else ""
            if says_nothing(cell):
                continue
            match = _NUMBER.fullmatch(cell)
            if match is None:
                del self.candidates[number]
            elif match[1]:
                self.candidates[number] = True

    def columns(self) -> frozenset[str]:
        return frozenset(self.table.columns[number] for number, has_comma in self.candidates.items() if has_comma)
