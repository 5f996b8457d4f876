"""A folder (or zip) of pictures with a tags.csv: columns id and tags, and others that may be asked for."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator

from shards.core.errors import UserError
from shards.sources.file_tree import Tree
from shards.sources.item import Picture, Source
from shards.sources.rows import Asked, Rows
from shards.sources.tables import read_table

TABLE = "tags.csv"


def read_tags(tree: Tree, asked: Asked) -> Source:
    where = tree.where(TABLE)
    if TABLE not in tree.texts:
        raise UserError(f"{where}: missing; --source tags needs it, with columns id,tags")
    problems, find = tree.problems, finder(tree.pictures)
    rows = Rows(where, asked, problems, ("id",), classes=False)
    found: dict[str, int] = {}
    empty = True
    for line, row in read_table(where, tree.text(TABLE), (("id",), ("tags",))):
        empty = False
        if name := matched(find, row["id"].strip(), found, f"line {line}", rows):
            found[name] = rows.add(row, f"line {line}")
    if empty:
        raise UserError(f'{where}: no rows under its header; write one for each picture: id,"tag, tag"')
    if not found:
        lost = problems.named(next(iter(problems.found)), letters=60)
        raise UserError(f"{where}: none of its ids is a picture in {tree.root} (first: {lost})")
    return rows.source("tags", with_rows(tree, found))


def with_rows(tree: Tree, found: dict[str, int], what: str = "row") -> Iterator[tuple[str, Picture, int | None]]:
    """All pictures of a tree with the rows that were found for them; the others are counted."""
    for name, picture in tree.pictures.items():
        if name not in found:
            tree.problems.add("image-unlabelled", name, detail=what)
        yield name, picture, found.get(name)


def matched(find: Callable[[str], list[str]], name: str, found: Iterable[str], at: str, rows: Rows) -> str | None:
    """The one picture that a row's id means, unless an earlier row had it; what is amiss is counted."""
    matches = find(name)
    if not name:
        rows.problems.add("row-without-id", at)
    elif not matches:
        rows.problems.add("row-without-image", name)
    elif len(matches) > 1:
        rows.problems.add("id-ambiguous", name)
    elif matches[0] in found:
        rows.problems.add("id-repeated", name)
    else:
        return matches[0]
    return None


def finder(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Look up pictures by id: the path in the folder, else the path in its images/, else the bare file name;
    each with or without the extension; and where nothing has that name, with blanks at the ends of it left out."""
    ranks: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for original in names:
        path = unicodedata.normalize("NFC", original)
        spellings = (path, path.removeprefix("images/"), path.rpartition("/")[2])
        stripped: set[str] = set()
        for places, name in zip(ranks, spellings, strict=False):
            for spelling in (name, name.rpartition(".")[0]):
                places.setdefault(spelling, []).append(original)
                if spelling != spelling.strip():
                    stripped.add(spelling.strip())
        for spelling in stripped:
            ranks[-1].setdefault(spelling, []).append(original)

    def find(name: str) -> list[str]:
        name = unicodedata.normalize("NFC", name).removeprefix("./")
        return next((places[name] for places in ranks if name in places), [])

    return find
