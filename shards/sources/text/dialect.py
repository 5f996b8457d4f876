"""How a table is written: what separates its cells, how they are quoted, what stands before its rows, and its header.

Everything is told from the first lines by what fits best, and by which cells name images.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

from shards.dataset.images import EXTENSIONS
from shards.sources.text.label_words import Words, read_words

IsImageName = Callable[[str], bool]
Record = tuple[int, list[str]]  # line, cells

BLANKS = " "  # a delimiter: runs of blanks
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars", BLANKS: "blanks"}
_LINE = re.compile(r"[^\r\n]*(?:\r\n?|\n|\Z)")
_SEPARATOR_LINE = re.compile(r'\s*"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"[-+]?(\d+([.,]\d*)?|[.,]\d+)([eE][-+]?\d+)?")
_ID_NAMES = frozenset(
    "id ids image images image_id imageid img file filename file_name filepath file_path path name key url".split()
)
_HEADER_NAMES = _ID_NAMES | frozenset("tags tag label labels class classes caption text prompt category split".split())
_SAMPLE_LINES, _SAMPLE_LETTERS = 400, 1 << 18
_MOST = 0.6  # of the sampled rows must have the same number of cells


@dataclass(frozen=True)
class Dialect:
    """How a table is written.

    Attributes:
        delimiter: what separates cells; `BLANKS` stands for runs of blanks.
        quoting: "double" (a quote inside quotes is doubled), "backslash" (it has a backslash before it), or "none".
        skipped: lines before the header, or before the first row.
        has_header: True if the first record names the columns.
        width: cells of most rows.
        unnamed_first: True if the header lacks a name for the first column.
        comment: True if the header is a comment: "# id tags".
        last_cells: with `BLANKS`, how many cells are split off at the end of a line, 0 for all: file names may contain
            blanks then.
        first_cells: the same at the start: all words behind the name of the image are one cell then.
        words: what these words are; commas are put between those that are several labels.
    """

    delimiter: str
    quoting: str = "double"
    skipped: int = 0
    has_header: bool = True
    width: int = 1
    unnamed_first: bool = False
    comment: bool = False
    last_cells: int = 0
    first_cells: int = 0
    words: Words = Words.ONE

    def __str__(self) -> str:
        quoting = {"double": "", "backslash": ", quotes after backslashes", "none": ", no quotes"}[self.quoting]
        header = "with a header" if self.has_header else "without a header"
        return f"cells separated by {_DELIMITERS.get(self.delimiter, repr(self.delimiter))}{quoting}, {header}"

    def records(self, lines: Iterable[str], before: int = 0) -> Iterator[Record]:
        """Yield (line of the first letter, cells) of all records, blank ones left out.

        Raises:
            csv.Error: quotes are broken, or a cell is huge.
        """
        if self.delimiter == BLANKS:
            for number, line in enumerate(lines, before + 1):
                if cells := self._split_at_blanks(line):
                    yield number, cells
            return
        quoted = self.quoting != "none"
        reader = csv.reader(
            lines,
            delimiter=self.delimiter,
            strict=quoted,
            skipinitialspace=True,
            quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE,
            doublequote=self.quoting == "double",
            escapechar="\\" if self.quoting == "backslash" else None,
        )
        start = before + 1
        for cells in reader:
            if any(map(str.strip, cells)):
                yield start, cells
            start = before + reader.line_num + 1

    def _split_at_blanks(self, line: str) -> list[str]:
        if self.first_cells:
            cells = line.strip().split(None, self.first_cells)
            if self.words == Words.SEVERAL and len(cells) > self.first_cells and "," not in cells[-1]:
                cells[-1] = ", ".join(cells[-1].split())
            return cells
        return line.rsplit(None, self.last_cells or -1)


def split_lines(text: str) -> Iterator[str]:
    """Yield the lines of a text with their ends, whichever of the three kinds these are."""
    for match in _LINE.finditer(text):
        if match.end() > match.start():
            yield match.group()


def infer_dialect(text: str, is_image_name: IsImageName | None = None, header: bool | None = None) -> Dialect:
    """Return how a table is written.

    Args:
        text: the table.
        is_image_name: says whether a cell may be the name or id of an image of the source.
        header: True or False if that is known.
    """
    lines = _sample(text)
    skipped, forced, comment = _preamble(lines)
    if comment:
        lines[skipped] = lines[skipped].lstrip("# ")
    body = lines[skipped:]
    names = is_image_name or (lambda cell: False)
    candidates = [Dialect(forced)] if forced else [Dialect(delimiter) for delimiter in _DELIMITERS]
    fits = [_fit(dialect, body, names) for dialect in candidates]
    fits += _partly_split(fits[-1], body, names) if not forced else []
    best = max(fits, key=lambda fit: fit.score)
    dialect = replace(best.dialect, skipped=skipped, comment=comment)
    has_header = comment or (_has_header(best.rows, names) if header is None else header)
    first = len(best.rows[0]) if best.rows else 1
    unnamed = has_header and first + 1 == dialect.width and _lacks_first_name(best.rows, names)
    return replace(dialect, has_header=has_header, unnamed_first=unnamed)


@dataclass(frozen=True)
class _Fit:
    dialect: Dialect
    rows: list[list[str]]
    score: tuple[float, ...]


def _sample(text: str) -> list[str]:
    lines: list[str] = []
    letters = 0
    for line in islice(split_lines(text), _SAMPLE_LINES):
        if letters > _SAMPLE_LETTERS and len(lines) > 3:
            break
        lines.append(line)
        letters += len(line)
    return lines


def _preamble(lines: list[str]) -> tuple[int, str, bool]:
    """Return how many lines stand before the table, the delimiter that they name, and if a comment is its header."""
    at = 0
    while at < len(lines) and not lines[at].strip():
        at += 1
    if at < len(lines) and (told := _SEPARATOR_LINE.fullmatch(lines[at])):
        return at + 1, told[1], False
    start = at
    while at < len(lines) and lines[at].lstrip().startswith("#"):
        at += 1
    if at > start:
        named = {cell.strip().lower() for cell in re.split(r"[,;\t| ]", lines[at - 1].lstrip("# "))}
        is_header = bool(named & _HEADER_NAMES)
        return (at - 1, "", True) if is_header else (at, "", False)
    counts_rows = (
        at + 1 < len(lines) and lines[at].strip().isdecimal() and len(re.split(r"[,;\t| ]", lines[at + 1])) > 1
    )
    return (at + 1 if counts_rows else at), "", False


def _fit(dialect: Dialect, lines: list[str], names: IsImageName) -> _Fit:
    """Say how well a delimiter fits: do cells name images, and have rows the same number of cells?"""
    fits = [_fit_quoting(replace(dialect, quoting=quoting), lines, names) for quoting in _quotings(dialect, lines)]
    return max(fits, key=lambda fit: fit.score)


def _partly_split(whole: _Fit, lines: list[str], names: IsImageName) -> list[_Fit]:
    """Return how well the two ways fit in which only one blank of each line separates cells.

    The words behind an image are one cell if their number varies, or if they are one label: else they are columns.
    """
    last = _fit(Dialect(BLANKS, last_cells=1), lines, names)
    labels = [tuple(cells[1:]) for cells in whole.rows if len(cells) > 1]
    numbers = sum(_are_numbers([*words]) for words in labels)
    if numbers * 2 > len(labels):
        return [last]
    kind = read_words(labels)
    if len({len(words) for words in labels}) > 1:
        return [last, _fit(Dialect(BLANKS, first_cells=1, words=kind), lines, names)]
    if kind != Words.ONE or max(map(len, labels), default=1) == 1 or not _begins_with_image(whole.rows[0][0], names):
        return [last]
    one = _fit(Dialect(BLANKS, first_cells=1), lines, names)
    return [last, replace(one, score=(*one.score[:2], True))]  # better than columns, which fit as well


def _quotings(dialect: Dialect, lines: list[str]) -> tuple[str, ...]:
    """Return the ways of quoting that come into question; the usual one first."""
    if dialect.delimiter == BLANKS:
        return ("none",)
    backslashes = ("backslash",) if any('\\"' in line for line in lines) else ()
    return ("double", *backslashes, "none") if dialect.delimiter in "\t|" else ("double", *backslashes)


def _fit_quoting(dialect: Dialect, lines: list[str], names: IsImageName) -> _Fit:
    rows: list[list[str]] = []
    sound = True
    try:
        rows.extend(cells for _, cells in dialect.records(lines))
    except csv.Error as error:
        sound = "unexpected end" in str(error) and len(rows) > 3  # the sample ends inside quotes
    body = rows[1:] or rows
    counts = Counter(map(len, body))
    width, same = max(counts.items(), key=lambda item: (item[1], item[0]), default=(1, 0))
    share = same / max(1, len(body))
    columns = zip(*(cells[:64] for cells in body if len(cells) == width), strict=False) if width > 1 else ()
    named = max((sum(map(names, column)) for column in columns), default=0) / max(1, len(body))
    headed = bool(rows) and len(rows[0]) in (width, width - 1) and len(rows[0]) > 1
    plain = dialect.delimiter != BLANKS
    whole = not dialect.last_cells and not dialect.first_cells
    usable = width > 1 and share >= _MOST and (plain or share > 0.95)
    if dialect.first_cells:  # some images may have no label
        named = sum(names(cells[0]) for cells in body) / max(1, len(body))
        usable, width = named >= _MOST, 2
    certain = plain and len(body) > 3 and _names_rows(rows, names)
    if certain:  # whatever its faults, which are then reported by line
        usable, named, headed = True, 1.0, True
        width = width if share >= _MOST else len(rows[0])
    double = dialect.quoting == "double"
    matched = 0.0 if plain else round(named, 2)
    fit = (matched, headed, sound, round(share, 2), whole, double, width)
    score = (usable and (sound or certain), named > 0.3, plain, *fit)
    return _Fit(replace(dialect, width=width), rows, score)


def _names_rows(rows: list[list[str]], names: IsImageName) -> bool:
    """Return True if a header begins with a name for ids, and nearly every row with that of an image."""
    first, body = rows[0], rows[1:]
    if len(first) < 2 or first[0].strip().lower() not in _ID_NAMES:
        return False
    return sum(names(cells[0].strip()) for cells in body) * 10 >= len(body) * 9


def _has_header(rows: list[list[str]], names: IsImageName) -> bool:
    """Return True if the first row looks unlike the others; also if nothing tells, which is the custom."""
    if not rows:
        return True
    first, body = [cell.strip() for cell in rows[0]], rows[1:]
    if any(map(is_file_name, first)) or _begins_with_image(first[0], names):
        return False
    shift = 1 if body and all(len(cells) == len(first) + 1 for cells in body) else 0
    columns = [[cells[n + shift].strip() for cells in body if len(cells) > n + shift] for n in range(len(first))]
    if any(cell.lower() in _HEADER_NAMES and cell not in column for cell, column in zip(first, columns, strict=True)):
        return True
    named = [sum(map(names, column)) for column in columns]
    if not shift and named and max(named) and (key := first[named.index(max(named))]):
        return not names(key) and not (_NUMBER.fullmatch(key) and _are_numbers(columns[named.index(max(named))]))
    if not body and any(map(names, first)):
        return False
    for cell, column in zip(first, columns, strict=True):
        alike = _are_numbers(column) or _are_file_names(column)
        if alike and cell and not _NUMBER.fullmatch(cell):
            return True
        if cell in column or (_NUMBER.fullmatch(cell) and _are_numbers(column)):
            return False
    return True


def _are_numbers(column: list[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and sum(bool(_NUMBER.fullmatch(cell)) for cell in filled) * 10 >= len(filled) * 9


def _are_file_names(column: list[str]) -> bool:
    filled = [cell for cell in column if cell]
    return bool(filled) and sum(map(is_file_name, filled)) * 10 >= len(filled) * 9


def _lacks_first_name(rows: list[list[str]], names: IsImageName) -> bool:
    """Return True if a header with one cell less than the rows begins at their second column."""
    body = rows[1:]
    if all(not cells[-1].strip() for cells in body if len(cells) == len(rows[0]) + 1):
        return False  # rows end with a delimiter
    first = sum(names(cells[0].strip()) for cells in body)
    second = sum(names(cells[1].strip()) for cells in body if len(cells) > 1)
    if rows[0][0].strip().lower() in _ID_NAMES:
        return second > first
    return first > 0 or not second


def _begins_with_image(cell: str, names: IsImageName) -> bool:
    word = cell.partition(" ")[0]
    return is_file_name(word) and names(word)


def is_file_name(cell: str) -> bool:
    """Return True if a cell ends as the files of images do."""
    return f".{cell.strip().lower().rpartition('.')[2]}" in EXTENSIONS and "." in cell
