"""Names of numbered classes in a list next to the images: synsets.txt, classes.txt, label_map.json and the like."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from shards.sources.cells import InvalidValue, parse_json
from shards.sources.file_tree import FileTree
from shards.sources.labelled_tables.facts import ColumnFacts
from shards.sources.text.encoding import decode

_FILE = re.compile(
    r"(.*[_-])?(synsets?|class(es)?|labels?|names?|categor(y|ies)|(class|label)_?names?)\.(txt|lst|names)",
    re.IGNORECASE,
)
_JSON = re.compile(r".*(synset|class|label|categor|names?|idx|index|map).*\.json", re.IGNORECASE)
_NUMBERED = re.compile(r"(\d+)[\s,:]+(\S.*)")
_MAX_BYTES = 1 << 20


def listed_names(tree: FileTree, fact: ColumnFacts) -> list[str]:
    """Return the names of the classes 0, 1, … of a column, if exactly one list has a line for each; else none."""
    numbers = fact.numbers()
    if numbers is None or not all(number.is_integer() and number >= -1 for number in numbers):
        return []
    lists = [(file, names) for file in _lists(tree) if (names := _names(tree, file)) and len(names) > max(numbers)]
    lists = [(file, names) for file, names in lists if len({*names}) == len(names)]
    if len(lists) != 1 or len(lists[0][1]) > 2 * (max(numbers) + 1):
        return []
    tree.problems.add("class-named-by-list", detail=lists[0][0], count=len(lists[0][1]))
    return lists[0][1]


def _lists(tree: FileTree) -> list[str]:
    files = ((name, posixpath.basename(name)) for name in tree.texts)
    return [name for name, file in files if _FILE.fullmatch(file) or _JSON.fullmatch(file)]


def _names(tree: FileTree, file: str) -> list[str]:
    return _json_names(tree, file) if file.lower().endswith(".json") else _lines(tree, file)


def _json_names(tree: FileTree, file: str) -> list[str]:
    """Return the names of a JSON list, or of an object that numbers them either way; none of any other content."""
    data = tree.text(file)
    try:
        content = parse_json(data) if len(data) <= _MAX_BYTES else None
    except InvalidValue:
        return []
    if isinstance(content, dict):
        numbered = {str(number): name for name, number in content.items() if type(number) is int} or content
        content = [numbered.get(str(number)) for number in range(len(content))]
    names: list[Any] = content if isinstance(content, list) else []
    return [name.strip() for name in names] if all(isinstance(name, str) and name.strip() for name in names) else []


def _lines(tree: FileTree, file: str) -> list[str]:
    """Return the names of a list; lines may begin with the numbers 0, 1, …."""
    data = tree.text(file)
    if len(data) > _MAX_BYTES:
        return []
    lines = [line.strip() for line in decode(data, tree.where(file)).text.splitlines() if line.strip()]
    numbered = [_NUMBERED.fullmatch(line) for line in lines]
    if all(match is not None and int(match[1]) == at for at, match in enumerate(numbered)):
        return [match[2] for match in numbered if match is not None]
    return lines
