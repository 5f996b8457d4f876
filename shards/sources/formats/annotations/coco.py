"""COCO: the categories of the objects in each image as tags, and captions, from annotations/*.json."""

from __future__ import annotations

import posixpath
import re
from typing import Any

from shards.core.errors import UserError
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import find_files
from shards.sources.item import Source
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

NAME = "coco"

_MAX_FILES = 64  # in a folder
_OTHERS = re.compile(r"(person_keypoints|panoptic|stuff|image_info)_", re.IGNORECASE)
_SHAPES = ("segmentation", "bbox", "keypoints", "segments", "points")  # most of a file, and of no use here


def detect(tree: FileTree, options: ScanOptions) -> str:
    names = _files(tree)
    return f"{names[0]} has images and annotations" if tree.images and names else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    files = _files(tree)
    if not files:
        raise UserError(
            "format-mismatch", f'{tree.root}: contains no COCO annotations ({{"images": …, "annotations": …}})'
        )
    rows = RowCollector(tree.where(files[0]), options, tree.problems)
    labels: dict[str, dict[str, Any]] = {}
    for file in files:
        _read(tree, file, labels)
    if not labels:
        raise UserError("no-row-matches", f"{tree.where(files[0])}: names no image in {tree.root}")
    for name, row in labels.items():
        if (further := row.pop("captions", 1) - 1) > 0:
            tree.problems.add("caption-not-first", name, count=further)
    matched = {name: rows.add(row, files[0]) for name, row in labels.items()}
    return rows.build_source(NAME, images_with_rows(tree, matched, "annotation"))


def _files(tree: FileTree) -> list[str]:
    """Return the files of annotations; those of keypoints and the like only if there are no others."""
    folders = {posixpath.dirname(name) for name in tree.texts if name.lower().endswith(".json")}
    found = find_files(tree.texts, ".json", _is_coco, most=_MAX_FILES * max(1, len(folders)))
    return [name for name in found if not _OTHERS.match(posixpath.basename(name))] or found


def _is_coco(name: str, start: bytes) -> bool:
    keys = rb'"(info|licenses|annotations|categories)"\s*:\s*[\[{]'
    return re.search(rb'"images"\s*:\s*\[', start) is not None and re.search(keys, start) is not None


def _read(tree: FileTree, file: str, labels: dict[str, dict[str, Any]]) -> None:
    """Add the tags and captions of a file to the rows of its images.

    Raises:
        UserError: it is not JSON, or lacks images or annotations.
    """
    content = tree.json(file, _without_shapes)
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise UserError("table-malformed", f'{tree.where(file)}: no lists "images" and "annotations"')
    categories = {
        one["id"]: sanitize(str(one.get("name")).replace(",", " "))
        for one in content.get("categories") or ()
        if isinstance(one, dict) and isinstance(one.get("id"), int | str)
    }
    paths = {
        one["id"]: sanitize(one["file_name"].replace("\\", "/"))
        for one in content["images"]
        if isinstance(one, dict) and isinstance(one.get("file_name"), str) and isinstance(one.get("id"), int | str)
    }
    found = tree.image_names.match_each(paths.values(), tree.problems)
    names = {id: found[path] for id, path in paths.items() if path in found}
    for name in names.values() if categories else ():
        labels.setdefault(name, {}).setdefault("tags", [])
    for one in content["annotations"]:
        if isinstance(one, dict) and isinstance(one.get("image_id"), int | str) and one["image_id"] in names:
            name = names[one["image_id"]]
            _add(tree, name, one, categories, labels.setdefault(name, {}))


def _add(
    tree: FileTree, name: str, annotation: dict[str, Any], categories: dict[Any, str], row: dict[str, Any]
) -> None:
    if isinstance(caption := annotation.get("caption"), str):
        row["captions"] = row.get("captions", 0) + 1
        row.setdefault("text", " ".join(caption.split()))
    for one in (annotation, *(annotation.get("segments_info") or ())):
        if isinstance(one, dict) and isinstance(id := one.get("category_id"), int | str):
            if id in categories and categories[id] not in row.setdefault("tags", []):
                row["tags"].append(categories[id])
            elif id not in categories:
                tree.problems.add("category-unknown", f"{name}: {id}")


def _without_shapes(value: dict[str, Any]) -> dict[str, Any]:
    for key in _SHAPES:
        value.pop(key, None)
    return value


FORMAT = SourceFormat(NAME, "COCO annotations: categories as tags, and captions", detect, scan)
