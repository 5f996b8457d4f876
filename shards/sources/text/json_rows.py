"""Rows of JSON: one object per line, lists of objects, objects of columns, and objects from id to labels."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.cells import InvalidValue, parse_json, short_repr, shorten_names
from shards.sources.layout.folder_names import names_only_part
from shards.sources.text.dialect import IsImageName, is_file_name, split_lines
from shards.sources.text.encoding import decode
from shards.sources.text.nested_rows import Row, find_nesting, with_nested

LINES = (".jsonl", ".ndjson")
MAX_BYTES = 1 << 28  # of a file that is not one object per line
_LISTS = ("rows", "data", "images", "annotations", "items", "samples", "examples", "entries", "records", "labels")
_KEY, _ID = "key", "id"
_LOOKED_AT = 1000


@dataclass
class JsonRows:
    """The rows of a JSON file.

    Attributes:
        where: its path, for messages.
        columns: the keys of all rows, in the order in which they were met.
        shape: how the file is written, for people.
        place: what the numbers of rows count: "line" or "entry".
    """

    where: str
    columns: list[str]
    shape: str
    place: str
    _rows: Callable[[], Iterator[Row]] = field(repr=False)

    def __str__(self) -> str:
        return self.shape

    def dicts(self) -> Iterator[Row]:
        """Yield (line or entry, column → value) of each row."""
        return self._rows()


def open_json_rows(
    where: str,
    data: bytes,
    *,
    encoding: str | None = None,
    is_image_name: IsImageName | None = None,
    problems: Problems | None = None,
) -> JsonRows:
    """Return the rows of a JSON file; lines and entries that cannot be read are counted.

    Raises:
        UserError: it is not JSON, too large, or holds no rows; says what it holds.
    """
    problems = problems if problems is not None else Problems()
    names = is_image_name or (lambda cell: False)
    text = decode(data, where, encoding, problems).text
    if not _is_one_value(where, text):
        return _open_lines(where, text, problems, names)
    if len(data) > MAX_BYTES:
        raise UserError(
            "json-too-large",
            f"{where}: {len(data):,} bytes of JSON, of at most {MAX_BYTES:,}; write one object per line (.jsonl)",
        )
    value = _parse(where, text, problems)
    shape, rows = _rows_of(where, value, names)
    sound = _sound(where, rows, problems)
    if nesting := find_nesting(sound, names):
        sound = list(with_nested(sound, nesting))
    return JsonRows(where, _columns(sound), shape, "entry", lambda: iter(sound))


def _is_one_value(where: str, text: str) -> bool:
    """Return False if a text is one JSON object per line."""
    first = text.lstrip()[:1]
    if where.lower().endswith(LINES):
        return first == "["
    lines = [line for line in islice(split_lines(text), 100) if line.strip()][:2]
    return not (first == "{" and len(lines) == 2 and all(isinstance(_parse_line(line), dict) for line in lines))


def _parse_line(line: str) -> Any:
    try:
        return parse_json(line)
    except InvalidValue:
        return None


def _open_lines(where: str, text: str, problems: Problems, names: IsImageName) -> JsonRows:
    columns, first = dict[str, None](), list[Row]()
    readable = False
    for number, row in _line_rows(where, text, problems):
        readable = True
        columns.update(dict.fromkeys(row))
        if len(first) < _LOOKED_AT:
            first.append((number, row))
    if not readable:
        raise UserError("table-empty", f"{where}: none of its lines is a JSON object; write one per image")
    shape = "one JSON object per line"
    rows = lambda: _line_rows(where, text, Problems())  # noqa: E731 - they are read again rather than kept
    if nesting := find_nesting(first, names):
        read = lambda: with_nested(rows(), nesting)  # noqa: E731
        return JsonRows(where, _columns(read()), shape, "line", read)
    return JsonRows(where, list(columns), shape, "line", rows)


def _line_rows(where: str, text: str, problems: Problems) -> Iterator[Row]:
    for number, line in enumerate(split_lines(text), 1):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
        except InvalidValue as error:
            problems.add("line-unreadable", f"{where}, line {number}: {error}")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            problems.add("line-unreadable", f"{where}, line {number}: {short_repr(row)}")


def _parse(where: str, text: str, problems: Problems) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            problems.add("json-key-repeated", where, count=len(pairs) - len(found))
        return found

    try:
        return json.loads(text, object_pairs_hook=unique)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:
        reason = " ".join(str(error).split())[:120]
    raise UserError("json-damaged", f"{where}: not JSON ({reason}); correct it there, or write one object per line")


def _rows_of(where: str, value: Any, names: IsImageName) -> tuple[str, list[Any]]:
    """Return how a value holds rows, and the rows; entries that are no objects are among them as they are."""
    if isinstance(value, list):
        return "a list of entries", [_from_list(entry) for entry in value]
    if not isinstance(value, dict) or not value:
        raise _no_rows(where, value)
    if _is_split(value):
        return "columns, and a list of rows", [
            dict(zip(value["columns"], entry, strict=False)) if isinstance(entry, list) else entry
            for entry in value["data"]
        ]
    lists = [name for name in _LISTS if isinstance(value.get(name), list) and _holds_rows(value[name])]
    if len(lists) == 1:
        return f"a list of entries in {lists[0]!r}", [_from_list(entry) for entry in value[lists[0]]]
    if len(lists) > 1:
        raise UserError(
            "json-shape-unclear",
            f"{where}: several lists may be its rows ({', '.join(lists)}); write the rows alone, as a list of objects",
        )
    return _from_object(where, value, names)


def _from_object(where: str, value: dict[str, Any], names: IsImageName) -> tuple[str, list[Any]]:
    keys, entries = list(islice(value, _LOOKED_AT)), list(islice(value.values(), _LOOKED_AT))
    by_image = sum(map(names, keys)) * 2 >= len(keys)
    if (rows := _from_classes(value, names, by_image) or _from_parts(value, names)) is not None:
        return "images by class", rows
    if not by_image and (rows := _from_columns(value)) is not None:
        return "lists of values by column", rows
    if all(isinstance(entry, dict) for entry in entries):
        key = _ID if by_image and not any(_ID in entry for entry in entries) else _KEY
        return "objects by key", [
            {key: name, **entry} if isinstance(entry, dict) else entry for name, entry in value.items()
        ]
    if by_image:
        listed = any(isinstance(entry, list) and any(isinstance(one, str) for one in entry) for entry in entries)
        column = "tags" if listed else "label"
        return "labels by image", [{_ID: name, column: entry} for name, entry in value.items()]
    raise _no_rows(where, value)


def _from_classes(value: dict[str, Any], names: IsImageName, by_image: bool) -> list[Any] | None:
    """Return a row per image of an object from class to the images of it; None if this is none.

    An image of several classes has tags. Keys that are parts of a dataset are those of the images, and no classes.
    """
    if len(value) < 2 or not all(isinstance(files, list) for files in value.values()):
        return None
    if not all(_name_images(files, names, by_image) for files in value.values() if files):
        return None
    found: dict[str, list[str]] = {}
    for name, files in value.items():
        for file in files:
            found.setdefault(str(file), []).append(name)
    if all(map(names_only_part, value)):
        return [{_ID: file, "split": own[0]} for file, own in found.items()]
    several = any(len(set(own)) > 1 for own in found.values())
    return [{_ID: file, "tags": own} if several else {_ID: file, "label": own[0]} for file, own in found.items()]


def _from_parts(value: dict[str, Any], names: IsImageName) -> list[Any] | None:
    """Return a row per image of an object from the parts of a dataset to objects from class to images; else None."""
    if not all(isinstance(classes, dict) and names_only_part(part) for part, classes in value.items()):
        return None
    found = {part: _from_classes(classes, names, False) for part, classes in value.items()}
    if not all(found.values()):
        return None
    return [{**row, "split": part} for part, rows in found.items() for row in rows or ()]


def _name_images(entries: list[Any], names: IsImageName, only_files: bool) -> bool:
    """Return True if most entries name images, by their files if the keys may name images as well."""
    first = entries[:_LOOKED_AT]
    named = [entry for entry in first if isinstance(entry, str | int) and names(str(entry))]
    files = [entry for entry in named if isinstance(entry, str) and is_file_name(entry)]
    return len(files if only_files else named) * 2 > len(first)


def _from_columns(value: dict[str, Any]) -> list[Any] | None:
    """Return the rows of an object of columns, as pandas writes it; None if this is none."""
    columns = list(value.values())
    if all(isinstance(column, list) for column in columns):
        if len({len(column) for column in columns}) == 1 and len(value) < max(2, len(columns[0])):
            return [dict(zip(value, cells, strict=True)) for cells in zip(*columns, strict=True)]
        return None
    if not all(isinstance(column, dict) and column for column in columns):
        return None
    index = columns[0].keys()
    if not all(key.isdecimal() for key in index) or any(column.keys() != index for column in columns):
        return None
    return [{name: column[key] for name, column in value.items()} for key in index]


def _is_split(value: Mapping[str, Any]) -> bool:
    columns, data = value.get("columns"), value.get("data")
    return isinstance(columns, list) and isinstance(data, list) and all(isinstance(name, str) for name in columns)


def _holds_rows(entries: list[Any]) -> bool:
    first = entries[:_LOOKED_AT]
    return bool(first) and sum(isinstance(entry, dict) for entry in first) * 2 > len(first)


def _from_list(entry: Any) -> Any:
    """Return an entry as a row: without the wrapping of a data set viewer, and with numbered columns for a list."""
    if isinstance(entry, dict) and isinstance(entry.get("row"), dict) and entry.keys() <= _WRAPPING:
        return entry["row"]
    if isinstance(entry, list) and len(entry) > 1:
        return {f"column {number}": value for number, value in enumerate(entry, 1)}
    return entry


_WRAPPING = {"row", "row_idx", "truncated_cells"}


def _sound(where: str, rows: list[Any], problems: Problems) -> list[Row]:
    sound: list[Row] = []
    for number, row in enumerate(rows, 1):
        if isinstance(row, dict):
            sound.append((number, row))
        else:
            problems.add("line-unreadable", f"{where}, entry {number}: {short_repr(row)}")
    if not sound:
        raise _no_rows(where, rows)
    return sound


def _columns(rows: Iterable[Row]) -> list[str]:
    found = dict[str, None]()
    for _, row in rows:
        found.update(dict.fromkeys(row))
    return list(found)


def _no_rows(where: str, value: Any) -> UserError:
    held = f"an object with the keys {shorten_names(value)}" if isinstance(value, dict) and value else short_repr(value)
    return UserError(
        "json-without-rows",
        f"{where}: holds {held}, which is no table; it needs a list of objects, one per image, or one object per line",
    )
