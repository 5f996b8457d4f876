"""Tables as text: CSV with a header."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence

from shards.core.errors import UserError
from shards.sources.cells import listed


def read_table(where: str, data: bytes, needs: Sequence[Sequence[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column → cell) of each row of a CSV; names of columns are in lower case where ``needs`` has them.

    Cells are separated by commas; by semicolons or tabs where only then the header has the columns that are needed.

    Args:
        where: the table, for sentences.
        data: its text.
        needs: columns that must be there; each a list of names that will do, put under the first of them.

    Raises:
        UserError: no UTF-8, no such columns, broken quotes, cells too many: by line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{where}, line {line}: not UTF-8; save the table as UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, needs), strict=True)
    try:
        header = _header(where, next(reader, []), needs)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(header):
                raise UserError(
                    f"{where}, line {reader.line_num}: {len(row)} cells under {len(header)} columns; "
                    "put tags that are separated by commas in quotes"
                )
            yield reader.line_num, dict(zip(header, row + [""] * (len(header) - len(row)), strict=True))
    except csv.Error as error:
        raise UserError(f"{where}, line {reader.line_num}: {error}; check the quotes there") from None


def _separator(text: str, needs: Sequence[Sequence[str]]) -> str:
    for separator in ",;\t":
        with contextlib.suppress(csv.Error):
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
            cells = {cell.strip().lower() for cell in row}
            if all(cells.intersection(names) for names in needs):
                return separator
    return ","


def _header(where: str, row: list[str], needs: Sequence[Sequence[str]]) -> list[str]:
    header = [cell.strip() for cell in row]
    wanted = " and ".join(needed[0] for needed in needs)
    if not any(header):
        raise UserError(f"{where}: empty; it needs the columns {wanted.replace(' and ', ',')}")
    lower = [cell.lower() for cell in header]
    missing = [names[0] for names in needs if not any(name in lower for name in names)]
    if missing:
        raise UserError(f"{where}, line 1: no column {' and no '.join(missing)}; the columns are {listed(lower)}")
    for names in needs:
        header[next(lower.index(name) for name in names if name in lower)] = names[0]
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise UserError(f"{where}, line 1: the column {listed(twice[:1])!r} stands twice; name each once")
    return header
