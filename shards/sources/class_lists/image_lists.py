"""A list of images for each class: cat.txt and dog.txt, with the names of files in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from shards.sources.cells import shorten_names
from shards.sources.file_tree import FileTree
from shards.sources.id_ladder import ImageNames
from shards.sources.item import ColumnUse, Source
from shards.sources.labelled_tables.candidates import Candidate, image_id
from shards.sources.labelled_tables.lost_rows import note_lost_rows
from shards.sources.layout.folder_names import is_container, names_only_part, part_name
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.text.open_rows import open_rows

_NO_CLASS = frozenset({"all", "list", "lists", "index", "files", "filelist", "names", "trainval", "labels"})


class ClassFile(NamedTuple):
    """A list of the images of one class; ``part`` is the part of the dataset that its name has besides the class."""

    candidate: Candidate
    label: str
    part: str | None


def class_files(candidates: Sequence[Candidate]) -> list[ClassFile]:
    """Return the tables that have nothing but names of images, and are named by a class; none if there is only one.

    Lists named like parts of a dataset (train.txt) are none of a class.
    """
    found = [_class_file(one) for one in candidates if len(one.columns) == 1 and not _names_no_class(one.stem)]
    return found if len({one.label for one in found}) > 1 else []


def scan_class_files(
    tree: FileTree, files: Sequence[ClassFile], options: ScanOptions, kind: str, images: ImageNames
) -> Source:
    """Return the source whose images have the classes of the lists that name them; several are tags.

    Raises:
        UserError: a list cannot be read.
    """
    labels: dict[str, dict[str, None]] = {}
    parts: dict[str, str | None] = {}
    places: dict[str, str] = {}
    for file in files:
        table = open_rows(tree, file.candidate.file, options, images.may_name)
        numbers, rows = zip(*table.dicts(), strict=True)
        ids = [image_id(file.candidate.folder, row.get(file.candidate.id)) for row in rows]
        for number, image in zip(numbers, images.match(ids, tree.problems, table.place, numbers), strict=True):
            if image is not None:
                labels.setdefault(image, {})[file.label] = None
                parts.setdefault(image, file.part)
                places.setdefault(image, f"{file.candidate.file}, {table.place} {number}")
    several = any(len(own) > 1 for own in labels.values())
    collector = RowCollector(tree.where(""), options, tree.problems)
    lines = {}
    for image, own in labels.items():
        row = {"tags": [*own]} if several else {"label": next(iter(own))}
        lines[image] = collector.add(row, places[image], part=parts[image])
    shown = shorten_names([file.candidate.file for file in files], 3)
    note_lost_rows(tree, shown, {*lines})
    collector.uses = (ColumnUse("names of the lists", "tags" if several else "class", "each lists images"),)
    source = collector.build_source(kind, images_with_rows(tree, lines), one_class=not several)
    source.evidence = f"{len(files):,} lists of images, one for each class: {shown}"
    return source


def _class_file(candidate: Candidate) -> ClassFile:
    part = part_name(candidate.stem)
    return ClassFile(candidate, " ".join(part.rest) if part else candidate.stem, part.part if part else None)


def _names_no_class(stem: str) -> bool:
    return names_only_part(stem) or is_container(stem) or stem.lower().replace("_", " ") in _NO_CLASS
