"""Metadata of an image board for images that are named by their ids, as Danbooru and its mirrors hand it out."""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import InvalidValue, parse_json
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import find_files, head
from shards.sources.item import ImageFile, Source
from shards.sources.json_records import row_of
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

NAME = "booru"

_ENDINGS = (".json", ".jsonl")
_MAX_FILES = 256  # more of them are notes of single images
_MAX_LINE = 1 << 24  # bytes


def detect(tree: FileTree, options: ScanOptions) -> str:
    names = _files(tree)
    return f"{names[0]}, whose records have an id and tags" if tree.images and names else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    files = _files(tree)
    if not files:
        raise UserError(
            "format-mismatch", f"{tree.root}: contains no JSON lines of records with an id and tags, as Danbooru's"
        )
    images = {stem: name for name in tree.images if (stem := posixpath.basename(name).rpartition(".")[0]).isdigit()}
    rows = RowCollector(tree.where(files[0]), options, tree.problems, ("id",))
    matched: dict[str, int] = {}
    others = 0
    for file in files:
        for line, record in _records(tree, file):
            name = images.get(str(record.get("id")))
            if name is None:
                others += 1
            elif name in matched:
                tree.problems.add("id-repeated", f"{file}, line {line}")
            else:
                at = f"{file}, line {line}"
                matched[name] = rows.add(row_of(record, tree.problems, at), at)
    if not matched:
        raise UserError("no-row-matches", f"{tree.where(files[0])}: none of its {others:,} ids is the name of an image")
    if others:
        tree.problems.add("record-without-image", files[0], count=others)
    return rows.build_source(NAME, images_with_rows(tree, matched, "record"))


def _files(tree: FileTree) -> list[str]:
    """Return files of records; none of them stands next to an image of the same name."""
    listed = [name for name in tree.texts if name.lower().endswith(_ENDINGS)]
    stems = {name.rpartition(".")[0] for name in tree.images} if listed else set[str]()
    alone = {
        name: tree.texts[name]
        for name in listed
        if name.rpartition(".")[0] not in stems and name[:-5] not in tree.images
    }
    return find_files(alone, _ENDINGS, _is_metadata, _MAX_FILES)


def _is_metadata(name: str, start: bytes) -> bool:
    """Return True if the first bytes of a file are those of an image board's records."""
    if posixpath.basename(name).lower().startswith("metadata.json"):
        return False
    start = start.lstrip(b"\xef\xbb\xbf \n\r\t[")
    if not start.startswith(b"{"):
        return False
    try:
        record, _ = json.JSONDecoder().raw_decode(start.decode("utf-8", "ignore"))
    except (ValueError, RecursionError):
        return False
    return isinstance(record, dict) and str(record.get("id", "")).isdigit() and _has_tags(record)


def _has_tags(record: dict[str, Any]) -> bool:
    return any(key in record for key in ("tags", "tag_string", "tags_general", "tag_string_general"))


def _records(tree: FileTree, file: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, record) of JSON lines, or of one JSON array; count lines that are not records."""
    for line, value in enumerate(_values(tree, file), 1):
        if isinstance(value, bytes):
            if not value.strip():
                continue
            try:
                value = parse_json(value)
            except InvalidValue as error:
                tree.problems.add("line-unreadable", f"{file}, line {line}: {error}")
                continue
        if isinstance(value, dict):
            yield line, value
        else:
            tree.problems.add("line-unreadable", f"{file}, line {line}")


def _values(tree: FileTree, file: str) -> Iterator[Any]:
    """Yield the lines of a file as bytes, or the entries of its array; a file of lines may have any size."""
    ref = tree.texts[file]
    if head(ref).lstrip(b"\xef\xbb\xbf \n\r\t").startswith(b"["):
        content = tree.json(file)
        yield from content if isinstance(content, list) else ()
    elif isinstance(ref, ImageFile):
        with open(ref.path, "rb") as lines:  # noqa: PTH123
            while line := lines.readline(_MAX_LINE):
                yield line
    else:
        yield from tree.text(file).split(b"\n")


FORMAT = SourceFormat(
    NAME, "metadata of an image board (JSON lines with id and tags), images named by id", detect, scan, has_columns=True
)
