"""Exports of Label Studio in JSON: choices and labels of objects as tags, texts as captions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from shards.core.errors import UserError
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import find_files
from shards.sources.item import Source
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

NAME = "label-studio"

_UPLOAD = re.compile(r"^[0-9a-f]{8}-")  # what an upload puts before a file's name
_OWN = frozenset("id annotator annotation_id created_at updated_at lead_time image".split())
_MAX_FILES = 64


def detect(tree: FileTree, options: ScanOptions) -> str:
    names = _files(tree)
    return f"{names[0]} is an export of Label Studio" if tree.images and names else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    files = _files(tree)
    if not files:
        raise UserError("format-mismatch", f"{tree.root}: contains no JSON export of Label Studio")
    rows = RowCollector(tree.where(files[0]), options, tree.problems)
    labelled = [task for file in files for task in _labels(list(_tasks(tree, file)))]
    names = tree.image_names
    ids = [next(filter(names.is_spelled, _spellings(path)), path) for _, path, _ in labelled]
    matched: dict[str, int] = {}
    for image, (at, _, cells) in zip(names.match(ids, tree.problems, "task"), labelled, strict=True):
        if image is not None:
            matched[image] = rows.add(cells, at)
    if not matched:
        first = tree.problems.named(next(iter(tree.problems.found), ""), letters=60)
        raise UserError("no-row-matches", f"{tree.where(files[0])}: names no image in {tree.root} (first: {first})")
    return rows.build_source(NAME, images_with_rows(tree, matched, "task"))


def _files(tree: FileTree) -> list[str]:
    return find_files(tree.texts, ".json", _is_export, _MAX_FILES)


def _is_export(name: str, start: bytes) -> bool:
    if not start.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"["):
        return False
    full = b'"data"' in start and (b'"annotations"' in start or b'"completions"' in start)
    return full or all(key in start for key in (b'"annotation_id"', b'"annotator"', b'"lead_time"'))


def _tasks(tree: FileTree, file: str) -> Iterator[tuple[str, str, dict[str, list[str]]]]:
    """Yield (name in reports, path of the image, control → chosen words) of each task.

    Raises:
        UserError: the file is not JSON.
    """
    content = tree.json(file)
    tasks: list[Any] = content if isinstance(content, list) else []
    for number, task in enumerate(tasks, 1):
        at = f"{file}, task {number}"
        data = task.get("data", task) if isinstance(task, dict) else {}
        path = _image_path(data)
        if path is None:
            tree.problems.add("row-without-id", at)
            continue
        if "data" not in task:  # JSON-MIN
            yield at, path, {key: found for key, value in task.items() if key not in _OWN and (found := _words(value))}
            continue
        done: Any = task.get("annotations") or task.get("completions") or []
        kept = [one for one in done if isinstance(one, dict) and not one.get("was_cancelled")]
        if len(kept) > 1:
            tree.problems.add("annotation-not-first", at, count=len(kept) - 1)
        yield at, path, _results(kept[0]) if kept else {}


def _labels(tasks: list[tuple[str, str, dict[str, list[str]]]]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield the tasks of a file with cells in place of controls: a label if each has one word of one control."""
    several = len({control for _, _, row in tasks for control in row}) > 1 or any(
        len(words) > 1 for _, _, row in tasks for words in row.values()
    )
    for at, path, row in tasks:
        words = [word for control in row.values() for word in control]
        yield at, path, {"tags": words} if several else {"label": words[0]} if words else {}


def _image_path(data: Any) -> str | None:
    values = [value for value in data.values() if isinstance(value, str)] if isinstance(data, dict) else []
    if isinstance(data, dict) and isinstance(data.get("image"), str):
        values.insert(0, data["image"])
    return next((value for value in values if _is_image(value)), None)


def _is_image(value: str) -> bool:
    return any(_path_of(value).lower().endswith(extension) for extension in EXTENSIONS)


def _path_of(value: str) -> str:
    """Return the path of an address or path; that of local storage is in its query (``?d=``)."""
    try:
        parts = urlsplit(value)
        local = parse_qs(parts.query).get("d")
    except ValueError:
        return value
    return local[0] if local else unquote(parts.path) or value


def _spellings(path: str) -> Iterator[str]:
    """Yield the names by which an image may be found: its path, ever shorter, then without what an upload adds."""
    parts = sanitize(_path_of(path)).strip("/").split("/")
    for start in range(len(parts)):
        yield "/".join(parts[start:])
    yield _UPLOAD.sub("", parts[-1])


def _results(annotation: dict[str, Any]) -> dict[str, list[str]]:
    """Return control → words of an annotation."""
    found: dict[str, list[str]] = {}
    for result in annotation.get("result") or ():
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict):
            continue
        words = _words({key: value for key, value in result["value"].items() if isinstance(value, list)})
        known = found.setdefault(str(result.get("from_name")), [])
        known += [word for word in words if word not in known]
    return {control: words for control, words in found.items() if words}


def _words(value: Any) -> list[str]:
    """Return the words of a value: a word, a list, ``{"choices": […]}``, or objects with labels."""
    if isinstance(value, str):
        return [sanitize(value)]
    if isinstance(value, list):
        return [word for one in value for word in _words(one)]
    if isinstance(value, dict):
        return [
            word
            for key, one in value.items()
            if key.endswith(("labels", "choices", "taxonomy"))
            for word in _words(one)
        ]
    return []


FORMAT = SourceFormat(NAME, "a JSON export of Label Studio", detect, scan)
