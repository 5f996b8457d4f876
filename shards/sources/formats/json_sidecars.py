"""A JSON file per image, as gallery-dl, hydrus, img2dataset and LabelMe write it."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import InvalidValue, parse_json, shorten_names
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.json_records import row_of
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import LABEL, RowCollector
from shards.sources.source_format import SourceFormat
from shards.sources.text.text_files import images_with_texts

NAME = "json"

_MAX_BYTES = 1 << 24  # of a JSON file


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return evidence if at least half of the images have a JSON file."""
    notes = sum(1 for _ in images_with_notes(tree))
    return f"{notes:,} of {len(tree.images):,} images have a JSON file" if notes * 2 >= len(tree.images) > 0 else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    rows = RowCollector(str(tree.root), options, tree.problems)
    texts = dict(images_with_texts(tree))
    matched: dict[str, int] = {}
    keys: dict[str, None] = {}
    labelled = tagged = 0
    for name, note in images_with_notes(tree):
        record = _record(tree, note)
        row = row_of(record, tree.problems, note) if record is not None else {}
        keys.update(dict.fromkeys(row))
        if "text" not in row and name in texts:
            row["text"] = tree.text(texts[name]).decode("utf-8", "replace").strip()
        tagged += bool(row.get("tags"))
        labelled += any(row.get(key) for key in ("tags", "text", *LABEL))
        if row:
            matched[name] = rows.add(row, note)
    if not matched:
        raise UserError("format-mismatch", f"{tree.root}: no image has a readable JSON file (image.png and image.json)")
    if tagged and len(texts) * 2 >= len(tree.images) and options.source == "auto":
        raise UserError(
            "ambiguous-source",
            f"{tree.root}: images have text files and JSON files with tags; set --source sidecars (text files) or "
            f"--source {NAME}",
        )
    if not labelled and not options.columns:
        raise UserError(
            "no-labels",
            f"{tree.root}: the JSON files have no tags, label or caption, but the keys {shorten_names(keys, 20)}; name "
            "those that are labels with --columns",
        )
    return rows.build_source(NAME, images_with_rows(tree, matched, "JSON file"))


def images_with_notes(tree: FileTree) -> Iterator[tuple[str, str]]:
    """Yield (image, JSON file) by name: image.json or image.png.json next to it, or image.json in another folder."""
    notes = {name for name in tree.texts if name.endswith(".json")}
    by_stem: dict[str, str | None] = {}
    for note in notes:
        stem = posixpath.basename(note)[:-5]
        by_stem[stem] = None if stem in by_stem else note
    for name in tree.images if notes else ():
        stem = name.rpartition(".")[0]
        near = (f"{name}.json", f"{stem}.json")
        found = next((note for note in near if note in notes), by_stem.get(posixpath.basename(stem)))
        if found is not None:
            yield name, found


def _record(tree: FileTree, name: str) -> Any:
    """Return the content of a JSON file; None if it cannot be used, which is counted."""
    try:
        data = tree.texts[name].read()
        if len(data) <= _MAX_BYTES:
            return parse_json(data)
        reason = f"{len(data):,} bytes"
    except OSError as error:
        reason = str(error.strerror)
    except InvalidValue as error:
        reason = str(error)
    tree.problems.add("json-file-unreadable", f"{name}: {reason}")
    return None


FORMAT = SourceFormat(NAME, "a JSON file per image (gallery-dl, hydrus, img2dataset)", detect, scan, has_columns=True)
