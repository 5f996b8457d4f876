"""Which tables of a source name its images, and in which column."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree
from shards.sources.id_ladder import ImageNames
from shards.sources.labelled_tables import column_names
from shards.sources.labelled_tables.facts import ColumnFacts, gather_facts, spelled
from shards.sources.labelled_tables.files import first_rows, header, table_files
from shards.sources.layout.folder_names import names_part
from shards.sources.options import ScanOptions
from shards.vocabulary.spelling import normalise

_ENOUGH = 0.5  # of the looked-at rows must name an image
_MAX_TABLES = 256


@dataclass(frozen=True)
class Candidate:
    """A table that names images.

    Attributes:
        file: its path below the source.
        id: the column that names them.
        columns: all columns.
        unnamed: columns that the table does not name.
        has_header: True if it names columns at all.
        folder: the folder that the names are paths from; "" for the source.
        images: those of the rows that were looked at.
        rows: how many rows it has, about.
        facts: what the first rows say of the columns.
        example: one row.
        repeats_folders: True if all that it says is a number for each folder of images.
    """

    file: str
    id: str
    columns: tuple[str, ...]
    unnamed: frozenset[str]
    has_header: bool
    folder: str
    images: frozenset[str]
    rows: int
    facts: tuple[ColumnFacts, ...]
    example: dict[str, Any]
    repeats_folders: bool = False

    @property
    def stem(self) -> str:
        return posixpath.basename(self.file).rpartition(".")[0]


def find_candidates(
    tree: FileTree,
    options: ScanOptions,
    images: ImageNames,
    files: Sequence[str] | None = None,
    enough: float = _ENOUGH,
    below: bool = False,
) -> list[Candidate]:
    """Return the tables whose first rows name images.

    Args:
        tree: the source's files.
        options: how it is read.
        images: the names of the images.
        files: the tables to look at (default: all).
        enough: fraction of the rows that must name an image; one row must in any case.
        below: True if ids are paths from the table's folder only.
    """
    names = table_files(tree) if files is None else files[:]
    limit = _MAX_TABLES if files is None else len(names)
    found = (_inspected(tree, name, options, images, enough, below) for name in names[:limit])
    return [candidate for candidate in found if candidate is not None]


def _inspected(
    tree: FileTree, name: str, options: ScanOptions, images: ImageNames, enough: float, only_below: bool
) -> Candidate | None:
    """Return what `inspect_table` does, without looking at the same table again."""
    key = (name, options.id, options.encoding, enough, only_below)
    if key not in tree.inspected:
        tree.inspected[key] = inspect_table(tree, name, options, images, enough, only_below)
    return tree.inspected[key]


def inspect_table(
    tree: FileTree, name: str, options: ScanOptions, images: ImageNames, enough: float, only_below: bool
) -> Candidate | None:
    """Return how a table names images; None if it does not, or cannot be read. Why is noted if it may be meant to."""
    try:
        table, rows, count = first_rows(tree, name, options, images.may_name)
    except UserError as error:
        if name.lower().endswith((".csv", ".tsv")):
            tree.unusable[name] = str(error).removeprefix(f"{tree.where(name)}")
        return None
    if not rows:
        return None
    has_header, unnamed = header(table)
    wanted = [column for column in table.columns if options.id in (None, column)]
    likely = [column for column in wanted if _may_name(rows, column, images) >= enough]
    places = {column: place for place, column in enumerate(table.columns)}
    matches = [_match(name, rows, column, images, places[column], only_below) for column in likely]
    if not matches:
        return None
    _, found, id, folder = max(matches, key=lambda match: match[0])
    # Tables with a row per label name each image several times; a column of classes may do so by chance.
    several = column_names.names_images(id) and len(table.columns) > 1
    ids = {image_id("", row.get(id)) for row in rows} if several else rows
    if len(found) < max(1, enough * len(ids)):
        if len(table.columns) > 1 and (reason := images.describe_ambiguous(image_id("", row.get(id)) for row in rows)):
            tree.unusable[name] = f": {reason}"
        return None
    tree.unusable.pop(name, None)
    facts = tuple(gather_facts(table.columns, rows))
    repeats = _repeats_folders(folder, rows, id, images)
    return Candidate(name, id, tuple(table.columns), unnamed, has_header, folder, found, count, facts, rows[0], repeats)


def _repeats_folders(folder: str, rows: list[dict[str, Any]], id: str, images: ImageNames) -> bool:
    """Return True if the only other column numbers or names the folders of the images, which say it better."""
    others = [column for column in rows[0] if column != id]
    if len(others) != 1:
        return False
    folders: dict[str, set[str]] = {}
    matched = images.match([image_id(folder, row.get(id)) for row in rows], Problems())
    for row, image in zip(rows, matched, strict=True):
        if not image:
            continue
        value, name = spelled(row.get(others[0])), posixpath.basename(posixpath.dirname(image))
        if not value.isdigit() and normalise(value) != normalise(name):
            return False
        folders.setdefault(value, set()).add(name)
    single = [next(iter(names)) for names in folders.values() if len(names) == 1]
    return len(set(single)) == len(single) == len(folders) and all(single)


def image_id(folder: str, cell: Any) -> str:
    """Return the id of an image that a cell of a table means, a path from the folder; "" for an empty cell."""
    text = sanitize(spelled(cell)) if cell is not None and not isinstance(cell, list | dict) else ""
    return posixpath.normpath(posixpath.join(folder, text)) if folder and text else text


def _may_name(rows: list[dict[str, Any]], column: str, images: ImageNames) -> float:
    """Return the fraction of a column's cells that may name images."""
    cells = [image_id("", row.get(column)) for row in rows]
    return sum(map(images.may_name, cells)) / len(cells)


def _match(
    name: str, rows: list[dict[str, Any]], column: str, images: ImageNames, at: int, only_below: bool
) -> tuple[tuple[float, int, int], frozenset[str], str, str]:
    """Return (quality, images, column, folder): how well a column names images, as paths from which folder."""
    best: frozenset[str] = frozenset()
    own = posixpath.dirname(name)
    chosen = own if only_below else ""
    for folder in [own] if only_below else dict.fromkeys([own, "", _part_folder(name, images)]):
        ids = [image_id(folder, row.get(column)) for row in rows]
        found = frozenset(image for image in images.match(ids, Problems()) if image)
        if len(found) > len(best):
            best, chosen = found, folder
    return (round(len(best) / len(rows), 2), -column_names.rank_of_id(column), -at), best, column, chosen


def _part_folder(name: str, images: ImageNames) -> str:
    """Return train for trainLabels.csv and images in train/ and test/ that may have the same names; "" without one."""
    part = names_part(posixpath.basename(name).rpartition(".")[0])
    folders = [folder for folder in images.folders if names_part(folder) == part] if part else []
    return folders[0] if len(folders) == 1 else ""


def disjoint_groups(candidates: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    """Yield tables with the same columns whose rows name different images: they are parts of one table."""
    groups: list[list[Candidate]] = []
    for candidate in candidates:
        for group in groups:
            same = _columns_key(group[0]) == _columns_key(candidate)
            if same and all(candidate.images.isdisjoint(other.images) for other in group):
                group.append(candidate)
                break
        else:
            groups.append([candidate])
    yield from groups


def _columns_key(candidate: Candidate) -> tuple[Any, ...]:
    return candidate.has_header, tuple(name.strip().lower() for name in candidate.columns), candidate.id.lower()
