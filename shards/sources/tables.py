"""CSV tables with a header."""

from __future__ import annotations

import contextlib
import csv
import io
from collections.abc import Iterator, Sequence

from shards.core.errors import UserError
from shards.sources.cells import shorten_names


def read_table(where: str, data: bytes, required: Sequence[Sequence[str]]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, column → cell) of each row of a CSV.

    Cells are separated by commas, or by semicolons or tabs if the header has the required columns only then.

    Args:
        where: the table's path, for messages.
        data: its content.
        required: columns that must exist; each a list of alternative names in lower case. The first one is the
            column's key in the rows, whichever alternative the header has, in any case.

    Raises:
        UserError: the table is not UTF-8, lacks columns, or has broken quotes or too many cells; names the line.
    """
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError("table-not-utf8", f"{where}, line {line}: not UTF-8; save the table as UTF-8 text") from None
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_separator(text, required), strict=True)
    try:
        header = _header(where, next(reader, []), required)
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(header):
                raise UserError(
                    "too-many-cells",
                    f"{where}, line {reader.line_num}: {len(row)} cells under {len(header)} columns; "
                    "put tags that are separated by commas in quotes",
                )
            yield reader.line_num, dict(zip(header, row + [""] * (len(header) - len(row)), strict=True))
    except csv.Error as error:
        raise UserError("invalid-csv", f"{where}, line {reader.line_num}: {error}; check the quotes there") from None


def _separator(text: str, required: Sequence[Sequence[str]]) -> str:
    for separator in ",;\t":
        with contextlib.suppress(csv.Error):
            row = next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), [])
            cells = {cell.strip().lower() for cell in row}
            if all(cells.intersection(names) for names in required):
                return separator
    return ","


def _header(where: str, row: list[str], required: Sequence[Sequence[str]]) -> list[str]:
    header = [cell.strip() for cell in row]
    if not any(header):
        columns = ",".join(names[0] for names in required)
        raise UserError("table-empty", f"{where}: empty; it needs the columns {columns}")
    lower = [cell.lower() for cell in header]
    missing = [names[0] for names in required if not any(name in lower for name in names)]
    if missing:
        raise UserError(
            "column-missing",
            f"{where}, line 1: no column {' and no '.join(missing)}; the columns are {shorten_names(lower)}",
        )
    for names in required:
        header[next(lower.index(name) for name in names if name in lower)] = names[0]
    if repeated := [name for name in header if name and header.count(name) > 1]:
        raise UserError(
            "repeated-column", f"{where}, line 1: two columns are named {shorten_names(repeated[:1])!r}; rename one"
        )
    return header
