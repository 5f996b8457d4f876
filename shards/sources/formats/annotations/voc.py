"""Pascal VOC: an XML file per image; the names of the objects in it are tags."""

from __future__ import annotations

import posixpath
import re
from xml.etree import ElementTree

from shards.core.errors import UserError
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import head
from shards.sources.item import Source
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

NAME = "voc"

_MAX_BYTES = 1 << 22
_UNSAFE = re.compile(rb"<!(DOCTYPE|ENTITY)", re.IGNORECASE)  # entities can name files, or grow without end


def detect(tree: FileTree, options: ScanOptions) -> str:
    notes = _notes(tree)
    if not tree.images or len(notes) * 2 < len(tree.images):
        return ""
    first = next(iter(notes.values()))
    return f"{len(notes):,} XML annotations ({first})" if b"<annotation" in head(tree.others[first], 1 << 12) else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    notes = _notes(tree)
    rows = RowCollector(str(tree.root), options, tree.problems)
    matched = {}
    for name, note in notes.items():
        tags = _objects(tree, note)
        if tags is not None:
            matched[name] = rows.add({"tags": tags}, note)
    if not matched:
        raise UserError("format-mismatch", f"{tree.root}: no image has an XML file of annotations of the same name")
    return rows.build_source(NAME, images_with_rows(tree, matched, "annotation"))


def _notes(tree: FileTree) -> dict[str, str]:
    """Return image → its XML file, which has the same name in any folder."""
    by_stem = {posixpath.basename(name)[:-4]: name for name in tree.others if name.lower().endswith(".xml")}
    stems = {name: posixpath.basename(name).rpartition(".")[0] for name in tree.images} if by_stem else {}
    return {name: by_stem[stem] for name, stem in stems.items() if stem in by_stem}


def _objects(tree: FileTree, name: str) -> list[str] | None:
    """Return the names of the objects of an annotation; None if it cannot be read, which is counted."""
    try:
        data = tree.others[name].read()
        if len(data) > _MAX_BYTES or _UNSAFE.search(data):
            raise ValueError("refused: too long, or it declares entities")
        root = ElementTree.fromstring(data)
    except (OSError, ValueError, ElementTree.ParseError, RecursionError) as error:
        tree.problems.add("annotation-unreadable", f"{name}: {' '.join(str(error).split())[:80]}")
        return None
    names = [sanitize(one.text.strip()) for one in root.findall("object/name") if one.text and one.text.strip()]
    return list(dict.fromkeys(names))


FORMAT = SourceFormat(NAME, "Pascal VOC annotations (an XML file per image)", detect, scan)
