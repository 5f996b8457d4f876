"""Text files with boxes, as YOLO writes them, and the files that name their classes."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable

from shards.core import text_files
from shards.sources.file_tree import FileTree
from shards.sources.item import ImageRef

_BOX = re.compile(r"\s*\d+(?:[ \t]+-?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?){4,}\s*", re.IGNORECASE)
_MAX_BYTES = 1 << 20  # of a file of names
_MAX_CLASS = 100_000


def boxes_in(text: str) -> set[int] | None:
    """Return the class numbers of the boxes in a text (class x y width height); None for any other text."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not all(_BOX.fullmatch(line) for line in lines):
        return None
    return {min(int(line.split()[0][:9]), _MAX_CLASS) for line in lines}


def are_boxes(texts: Iterable[str]) -> bool:
    """Return True if nearly all texts are boxes; empty ones have no box and say nothing."""
    found = [boxes_in(text) is not None for text in texts if text.strip()]
    return bool(found) and sum(found) >= 0.9 * len(found)


def box_classes(tree: FileTree) -> tuple[str, list[str]]:
    """Return the file that names the classes of boxes, and the names: classes.txt, obj.names or data.yaml."""
    for name, file in sorted({**tree.texts, **tree.others}.items()):
        base = posixpath.basename(name).lower()
        if base in ("classes.txt", "obj.names", "predefined_classes.txt") or base.endswith(".names"):
            names = [line.strip() for line in _text(file).splitlines()]
            while names and not names[-1]:
                names.pop()
            if names:
                return name, names
        if base in ("data.yaml", "data.yml", "dataset.yaml") and (names := _yaml_names(_text(file))):
            return name, names
    return "", []


def _yaml_names(text: str) -> list[str]:
    """Return the entry "names" of a YAML file, a list or an object number → name."""
    try:
        content = text_files.parse_yaml(text)
    except ValueError:
        return []
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict) and all(isinstance(key, int) for key in names):
        names = [names.get(number, "") for number in range(min(max(names, default=-1), _MAX_CLASS) + 1)]
    if not isinstance(names, list) or not all(isinstance(name, str | int) for name in names):
        return []
    return [str(name) for name in names]


def _text(file: ImageRef) -> str:
    try:
        data = file.read()
    except OSError:
        return ""
    return data.decode("utf-8-sig", "replace") if len(data) <= _MAX_BYTES else ""
