"""Files that list the names of numbered classes: classes.txt, label_map.json, or a table of numbers and names."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import InvalidValue, parse_json
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import head
from shards.sources.labelled_tables.facts import number_of, spelled
from shards.sources.labelled_tables.files import table_files
from shards.sources.layout.folder_names import words
from shards.sources.text.encoding import decode
from shards.sources.text.json_rows import LINES
from shards.sources.text.tables import Table, open_table

_FILE = re.compile(
    r"(.*[_-])?(synsets?|class(es)?|labels?|names?|categor(y|ies)|(class|label)_?names?)\.(txt|lst|names)",
    re.IGNORECASE,
)
_LIST = re.compile(r"(class(es)?|names?|categor(y|ies)|(class|label)_?names?)\.(csv|tsv)", re.IGNORECASE)
_JSON = re.compile(r".*(synset|class|label|categor|names?|idx|index|map).*\.json", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d{1,9})[\s,:;]+(\S.*)")
_IMAGE = re.compile("|".join(map(re.escape, sorted(EXTENSIONS))), re.IGNORECASE)
_HEADERS = frozenset("name names class classes class_name class_names label labels label_name category".split())
_NESTED = ("names", "classes", "labels", "categories", "id2label", "label2id", "class_to_idx", "idx_to_class")
_MAX_BYTES = 1 << 20
_MAX_FILES = 64


@dataclass(frozen=True)
class NameList:
    """Names of classes, as one file lists them.

    Attributes:
        file: its path below the source.
        names: in the order of the file.
        numbers: of the classes; empty if the file gives their order alone.
        column: the name of the column of the numbers; "" if there is none.
        is_named: True if the file is named like a list of classes.
    """

    file: str
    names: tuple[str, ...]
    numbers: tuple[int, ...] = ()
    column: str = ""
    is_named: bool = True


def find_lists(tree: FileTree, column: str, without: Collection[str] = ()) -> list[NameList]:
    """Return the lists of names in a source.

    Args:
        tree: its files.
        column: the column whose numbers they may name.
        without: tables that are read for other things.
    """
    named = [name for name in tree.texts if _is_named(name)]
    tables = [name for name in table_files(tree) if name in tree.texts and not name.lower().endswith(".json")]
    files = [name for name in dict.fromkeys([*named, *tables]) if name not in without]
    found = (_read(tree, name, column) for name in files[:_MAX_FILES])
    return [one for one in found if one is not None and _are_names(one.names)]


def list_of_lines(file: str, text: str) -> NameList | None:
    """Return the names of a text with one on each line, perhaps below a header and after its number."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    if _LIST.fullmatch(posixpath.basename(file)) and any(re.search(r"[,;\t]", line) for line in lines):
        return None  # a table of several columns
    lines = lines[1:] if lines and lines[0].lower() in _HEADERS else lines
    numbered = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    if lines and len(numbered) == len(lines):
        return _numbered(file, [match[1] for match in numbered], [match[2] for match in numbered])
    return NameList(file, tuple(lines)) if lines else None


def _is_named(name: str) -> bool:
    file = posixpath.basename(name)
    return bool(_FILE.fullmatch(file) or _JSON.fullmatch(file))


def _are_names(names: Sequence[str]) -> bool:
    """Return False for lists of files and of numbers, and if a name is repeated."""
    if not names or len(set(names)) < len(names) or not all(names):
        return False
    return not any(map(_IMAGE.search, names)) and any(number_of(name) is None for name in names)


def _read(tree: FileTree, file: str, column: str) -> NameList | None:
    data = head(tree.texts[file], _MAX_BYTES + 1)
    if len(data) > _MAX_BYTES or not data.strip():
        return None
    if file.lower().endswith(".json"):
        return _from_json(file, data)
    if file.lower().endswith(LINES):
        return _from_json_lines(file, data, column)
    lines = _from_lines(tree, file, data) if _is_named(file) or _LIST.fullmatch(posixpath.basename(file)) else None
    if lines is not None and lines.numbers:
        return lines
    return _from_table(tree, file, data, column) or lines


def _from_lines(tree: FileTree, file: str, data: bytes) -> NameList | None:
    try:
        return list_of_lines(file, decode(data, tree.where(file)).text)
    except UserError:
        return None


def _from_json(file: str, data: bytes) -> NameList | None:
    """Return the names of a JSON list, or of an object that numbers them either way; None for any other content."""
    try:
        content = parse_json(data)
    except InvalidValue:
        return None
    if isinstance(content, dict):
        content = next((content[key] for key in _NESTED if isinstance(content.get(key), list | dict)), content)
    if isinstance(content, dict):
        pairs = [(number, name) for name, number in content.items() if type(number) is int] or list(content.items())
        return _numbered(file, [number for number, _ in pairs], [name for _, name in pairs])
    if not isinstance(content, list) or not content:
        return None
    if all(isinstance(entry, dict) for entry in content):
        return _from_rows(file, list(dict.fromkeys(key for entry in content for key in entry)), content, "")
    is_plain = all(isinstance(name, str) for name in content)
    return NameList(file, tuple(name.strip() for name in content)) if is_plain else None


def _from_json_lines(file: str, data: bytes, column: str) -> NameList | None:
    try:
        rows = [row for line in data.splitlines() if line.strip() and isinstance(row := parse_json(line), dict)]
    except InvalidValue:
        return None
    return _from_rows(file, list(dict.fromkeys(key for row in rows for key in row)), rows, column) if rows else None


def _from_table(tree: FileTree, file: str, data: bytes, column: str) -> NameList | None:
    """Return the names in a table with a column of different numbers, or with a header like that of the labels."""
    try:
        table: Table = open_table(tree.where(file), data, problems=Problems())
        rows = [row for _, row in table.dicts()]
    except UserError:
        return None
    if len(table.columns) < 2 or not rows:
        return None
    found = _from_rows(file, table.columns, rows, column)
    return found or (_in_order(file, table.columns, rows, column) if table.has_header else None)


def _from_rows(file: str, columns: Sequence[str], rows: Sequence[Mapping[str, Any]], column: str) -> NameList | None:
    """Return the names of rows with a column of different whole numbers and one of different words."""
    cells = {name: [spelled(row.get(name)) for row in rows if row.get(name) is not None] for name in columns}
    different = [name for name in columns if len(set(cells[name])) == len(rows)]
    numbers = [name for name in different if all(map(_is_whole, cells[name]))]
    names = [name for name in different if name not in numbers and all(cells[name])]
    numbers = [name for name in numbers if name.lower() == column.lower()] or numbers
    if len(names) > 1:
        names = [name for name in names if {"name", "names", "label", "class", "category"} & {*words(name)}]
    if len(numbers) != 1 or len(names) != 1:
        return None
    return _numbered(file, cells[numbers[0]], cells[names[0]], numbers[0])


def _in_order(file: str, columns: Sequence[str], rows: Sequence[Mapping[str, str]], column: str) -> NameList | None:
    """Return the only column of different words of a table whose header has a word of the labels' column."""
    different = [name for name in columns if len({row[name] for row in rows}) == len(rows)]
    if len(different) != 1 or not {*words(different[0])} & {*words(column)}:
        return None
    return NameList(file, tuple(row[different[0]].strip() for row in rows))


def _numbered(file: str, numbers: Sequence[Any], names: Sequence[Any], column: str = "") -> NameList | None:
    spelled_numbers = [spelled(number) for number in numbers]
    if not all(map(_is_whole, spelled_numbers)) or not all(isinstance(name, str) for name in names):
        return None
    whole = tuple(int(float(number)) for number in spelled_numbers)
    return NameList(file, tuple(name.strip() for name in names), whole, column, _is_named(file))


def _is_whole(text: str) -> bool:
    number = number_of(text)
    return number is not None and number.is_integer() and number >= 0
