"""The Oxford-IIIT Pet dataset as it unpacks: images/Breed_name_12.jpg and annotations/list.txt."""

from __future__ import annotations

from collections.abc import Iterator

from shards.core.errors import UserError
from shards.dataset.schema import Attribute
from shards.sources.file_tree import FileTree
from shards.sources.item import Item, Source
from shards.sources.layout.name_pattern import NamePattern
from shards.sources.options import ScanOptions
from shards.sources.rows import FOLDER
from shards.sources.source_format import SourceFormat
from shards.sources.spelling import words_by_case

NAME = "oxford-pets"

_LIST = "annotations/list.txt"  # rows of: name, class from 1 to 37, species 1 or 2, number of the breed in it
_HEADER = b"#image class-id species breed"
_PATTERN = NamePattern.parse("{breed}_#")
_SPECIES = {"1": "cat", "2": "dog"}


def detect(tree: FileTree, options: ScanOptions) -> str:
    found = _LIST in tree.texts and tree.text(_LIST).lower().startswith(_HEADER)
    return f"{_LIST} of the Oxford-IIIT Pet dataset" if found and tree.images else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    if not detect(tree, options):
        raise UserError("format-mismatch", f"{tree.where(_LIST)}: is not the list of the Oxford-IIIT Pet dataset")
    species = dict(_species(tree))
    breeds = {name: found["breed"] for name in tree.images if (found := _PATTERN.match(name))}
    words = words_by_case(sorted(set(breeds.values())))
    items = []
    for name, image in tree.images.items():
        stem = name.rpartition("/")[2].rpartition(".")[0]
        tags = tuple(word for word in (words.get(breeds.get(name, "")), species.get(stem)) if word)
        if not tags:
            tree.problems.add("image-unlabelled", name, detail="label")
        items.append(Item(name, image, tags or None, group="." if options.group == FOLDER else None))
    values = tuple(sorted(set(words.values())))
    attributes = (Attribute("breed", "exclusive", values), Attribute("species", "exclusive", ("cat", "dog")))
    return Source(NAME, items, attributes=attributes, problems=tree.problems)


def _species(tree: FileTree) -> Iterator[tuple[str, str]]:
    for line in tree.text(_LIST).decode("utf-8", "replace").splitlines():
        cells = line.split()
        if len(cells) >= 4 and cells[2] in _SPECIES:
            yield cells[0], _SPECIES[cells[2]]


FORMAT = SourceFormat(NAME, "the Oxford-IIIT Pet dataset as it unpacks", detect, scan)
