"""Read the labels of images from tables: one, several parts of one, or several with the same ids."""

from __future__ import annotations

import posixpath
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.sources.cells import shorten_names
from shards.sources.class_lists.class_names import listed_names
from shards.sources.columns import NUMBERS, TAG, WORDS, ColumnCollector
from shards.sources.file_tree import FileTree
from shards.sources.id_ladder import ImageNames
from shards.sources.item import Source
from shards.sources.labelled_tables.candidates import Candidate, image_id
from shards.sources.labelled_tables.column_names import names_images, rank_of_id
from shards.sources.labelled_tables.convert import RowConverter
from shards.sources.labelled_tables.facts import ColumnFacts, gather_facts, with_names
from shards.sources.labelled_tables.files import SAMPLE
from shards.sources.labelled_tables.long_tables import Combined, combine_rows
from shards.sources.labelled_tables.lost_rows import note_lost_rows
from shards.sources.labelled_tables.roles import Role, decide_roles
from shards.sources.labelled_tables.selection import Selection, select_columns
from shards.sources.labelled_tables.shifted_ids import check_numbering
from shards.sources.layout.folder_names import names_only_part
from shards.sources.layout.folder_names import names_part as part_of
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import FOLDER, RowCollector, RowKeys
from shards.sources.text.open_rows import Rows, open_rows

KEYS = RowKeys(("\0tags",), ("\0label",), ("\0text",), "\0denied")  # names that no column of a file has


class MatchedRow(NamedTuple):
    """A row that names an image.

    Attributes:
        image: what it names.
        at: its name in reports.
        cells: column → cell.
        part: the part of the dataset that it is in.
        denied: labels that do not apply to the image.
    """

    image: str
    at: str
    cells: dict[str, Any]
    part: str | None
    denied: Sequence[str] = ()


@dataclass
class AddedColumns:
    """Columns of another table: their names, and image → cells, in which equal texts are one object."""

    names: list[str]
    cells: dict[str, tuple[Any, ...]] = field(default_factory=dict)

    def add(self, row: MatchedRow) -> None:
        values = (row.cells.get(name) for name in self.names)
        self.cells[row.image] = tuple(sys.intern(value) if type(value) is str else value for value in values)


@dataclass
class Joined:
    """Tables with the same columns, read one after the other, and tables that add columns to their rows.

    Attributes:
        tables: (candidate, its rows, the part that its name stands for).
        names: column of the file → its name as a label; columns without a name are named by their file.
        added: the columns of the other tables.
        verdicts: the columns that say whether the label of their row applies.
    """

    tables: list[tuple[Candidate, Rows, str | None]]
    names: dict[str, str]
    added: list[AddedColumns] = field(default_factory=list)
    verdicts: list[str] = field(default_factory=list)

    @property
    def added_columns(self) -> list[str]:
        return [name for columns in self.added for name in columns.names]

    @property
    def columns(self) -> list[str]:
        return [*self.names.values(), *self.added_columns]

    def added_cells(self, image: str) -> dict[str, Any]:
        """Return column → cell of what the other tables say of an image."""
        found: dict[str, Any] = {}
        for columns in self.added:
            found |= zip(columns.names, columns.cells.get(image, ()), strict=False)
        return found

    def added_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the cells of the other tables for each image that they name."""
        return map(self.added_cells, dict.fromkeys(image for columns in self.added for image in columns.cells))

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yield all rows, without those of other tables."""
        for _, table, _ in self.tables:
            for _, row in table.dicts():
                yield {new: row.get(old) for old, new in self.names.items()}


def scan_tables(
    tree: FileTree, groups: Sequence[Sequence[Candidate]], options: ScanOptions, kind: str, images: ImageNames
) -> Source:
    """Return the source whose labels are in tables.

    Args:
        tree: the source's files.
        groups: tables that are parts of one; the first group has the rows, and the others add columns.
        options: how it is read.
        kind: the format's name.
        images: the names of the images.

    Raises:
        UserError: a table cannot be read, no row names an image, or no column is a label.
    """
    joined = _open(tree, groups[0], options, images)
    for group in groups[1:]:
        _add_columns(joined, _open(tree, group, options, images), tree, options, images)
    first = groups[0][0]
    where = tree.where(first.file if len(groups[0]) == 1 else "")
    class_names = _class_names(joined)
    matched = _match(joined, tree, options, images)
    facts = _all_facts(joined, class_names)
    id = joined.names[first.id]
    unnamed = [joined.names[name] for name in first.unnamed]
    roles = decide_roles(facts.values(), id, unnamed, joined.verdicts)
    chosen = select_columns(where, roles, facts, options, with_label=kind == "metadata")
    if not chosen.labels:
        raise no_label_error(where, roles)
    files = {candidate.file for group in groups for candidate in group}
    for name in _numbered_columns(chosen, roles):
        if name not in class_names and (words := listed_names(tree, facts[name], files)):
            class_names[name] = words
    rows, converter = collector_of(where, options, tree, chosen, roles, facts, joined.rows, class_names)
    lines: dict[str, int] = {}
    for image, at, cells, part, denied in matched():
        full = cells | joined.added_cells(image)
        converted = converter.convert(full, at, denied)
        lines[image] = rows.add(converted, at, part=converter.part(full) or part, written=full)
    converter.report()
    note_lost_rows(tree, shorten_names([candidate.file for candidate in groups[0]], 3), {*lines})
    left_out = [use.name for use in chosen.uses if not use.becomes]
    for name in left_out:
        tree.problems.add("column-left-out", shorten_names([name]), detail=posixpath.basename(first.file))
    source = rows.build_source(kind, images_with_rows(tree, lines))
    source.evidence = _evidence(groups, id, len(lines), len(tree.images))
    return source


def collector_of(
    where: str,
    options: ScanOptions,
    tree: FileTree,
    chosen: Selection,
    roles: Mapping[str, Role],
    facts: Mapping[str, ColumnFacts],
    all_rows: Any,
    class_names: Mapping[str, Mapping[int, str]],
) -> tuple[RowCollector, RowConverter]:
    """Return what collects the rows, and what brings them into its form."""
    converter = RowConverter(chosen, roles, facts, tree.problems, class_names, KEYS, options.min_weight)
    full = [name for name in chosen.yes_no if facts[name].filled == facts[name].rows]
    converter.join_one_hot(full, all_rows)
    kinds = dict.fromkeys((*chosen.classes, *converter.one_hot), WORDS) | dict.fromkeys(chosen.yes_no, TAG)
    kinds |= dict.fromkeys(chosen.numbers, NUMBERS)
    selected = (*converter.one_hot, *chosen.attributes)
    plain = {*converter.one_hot, *(name for name in chosen.classes if roles[name].is_label)}
    columns = ColumnCollector(where, selected, (), kinds, plain)
    group = options.group if options.group == FOLDER else chosen.group
    rows = RowCollector(where, replace(options, group=group), tree.problems, keys=KEYS, columns=columns)
    rows.uses = tuple(chosen.uses)
    return rows, converter


def no_label_error(where: str, roles: Mapping[str, Role]) -> UserError:
    """Return the error for a table without a column that is a label; it says why for each column."""
    whys = "; ".join(
        f"{shorten_names([name])}: {role.why or 'names the images'}{f' ({role.option})' if role.option else ''}"
        for name, role in list(roles.items())[:12]
    )
    return UserError("no-label-column", f"{where}: none of its columns is a label by itself ({whys})")


def mismatch_error(tree: FileTree, file: str, options: ScanOptions, images: ImageNames) -> UserError:
    """Return the error for a table of which no row names an image.

    Raises:
        UserError: the table cannot be read at all.
    """
    where = tree.where(file)
    table = open_rows(tree, file, options, images.may_name)
    if options.id and options.id not in table.columns:
        columns = shorten_names(table.columns, 40)
        return UserError("unknown-column", f"--id {options.id}: {where} has no such column; its columns are: {columns}")
    rows = [row for _, row in islice(table.dicts(), SAMPLE)]
    if not rows:
        return UserError("table-empty", f'{where}: no rows below the header; write one per image: id,"tag, tag"')
    id = options.id or min(table.columns, key=rank_of_id)
    if not options.id and not names_images(id):
        columns = shorten_names(table.columns, 40)
        names = shorten_names(list(tree.images)[:3])
        return UserError(
            "column-missing",
            f"{where}: no column names images such as {names}; its columns are: {columns}; write the names of the "
            "images into a column id",
        )
    why = images.describe_mismatch([image_id("", row.get(id)) for row in rows])
    return UserError("no-row-matches", f"{where}: none of its rows names an image in {tree.root}: {why}")


def _open(tree: FileTree, group: Sequence[Candidate], options: ScanOptions, images: ImageNames) -> Joined:
    tables = []
    for candidate in group:
        part = part_of(candidate.stem) if len(group) > 1 else None
        tables.append((candidate, open_rows(tree, candidate.file, options, images.may_name), part))
    first = group[0]
    names = {}
    for table in (table for _, table, _ in tables):
        for name in table.columns:
            names.setdefault(name, _label_name(first, name))
    return Joined(tables, names)


def _label_name(candidate: Candidate, column: str) -> str:
    """Return a column's name; that of a column without one is its file's, as in identity_CelebA.txt."""
    nameless = [name for name in candidate.unnamed if name != candidate.id]
    if candidate.has_header or nameless != [column] or names_only_part(candidate.stem):
        return column
    return candidate.stem


def _class_names(joined: Joined) -> dict[str, dict[int, str]]:
    names: dict[str, dict[int, str]] = {}
    for _, table, _ in joined.tables:
        names |= getattr(table, "names", {})
    return names


def _numbered_columns(chosen: Selection, roles: Mapping[str, Role]) -> list[str]:
    """Return the columns that a list of names beside the table may name: several ones only if they are named so."""
    if chosen.label:
        return [chosen.label]
    return [name for name in chosen.classes if roles[name].is_label or len(chosen.classes) == 1]


def _match(
    joined: Joined, tree: FileTree, options: ScanOptions, images: ImageNames
) -> Callable[[], Iterator[MatchedRow]]:
    """Return what yields all rows that name an image; they are read once more rather than kept."""
    matched: list[tuple[Combined, list[str | None]]] = []
    for candidate, table, _ in joined.tables:
        combined = combine_rows(table.dicts, candidate.id, tree.problems, tree.where(candidate.file), options)
        joined.verdicts += [joined.names[combined.verdict]] if combined.verdict else []
        ids, numbers = list[str](), list[int]()
        for number, row in combined.read():
            ids.append(image_id(candidate.folder, row.get(candidate.id)))
            numbers.append(number)
        found = images.match(ids, tree.problems, table.place, numbers)
        if options.id is None:
            check_numbering(tree.where(candidate.file), candidate.id, ids, found, tree.images)
        matched.append((combined, found))

    def rows() -> Iterator[MatchedRow]:
        for (candidate, table, part), (combined, names) in zip(joined.tables, matched, strict=True):
            several = len(joined.tables) > 1 or "/" in candidate.file
            prefix = f"{candidate.file}, " if several else ""
            for name, (number, row) in zip(names, combined.read(), strict=True):
                if name is not None:
                    cells = {joined.names[column]: cell for column, cell in row.items()}
                    denied = combined.denied.get(number, ())
                    yield MatchedRow(name, f"{prefix}{table.place} {number}", cells, part, denied)

    return rows


def _add_columns(joined: Joined, other: Joined, tree: FileTree, options: ScanOptions, images: ImageNames) -> None:
    """Add the columns of another table to the rows of the same images."""
    matched = _match(other, tree, options, images)
    without = {other.names[other.tables[0][0].id], *other.verdicts}
    added = AddedColumns([name for name in other.columns if name not in without])
    for row in matched():
        added.add(row)
    joined.added.append(added)


def _all_facts(joined: Joined, class_names: Mapping[str, Mapping[int, str]]) -> dict[str, ColumnFacts]:
    own = gather_facts(list(joined.names.values()), (with_names(row, class_names) for row in joined.rows()))
    added = gather_facts(joined.added_columns, joined.added_rows())
    return {fact.name: fact for fact in (*own, *added)}


def _evidence(groups: Sequence[Sequence[Candidate]], id: str, labelled: int, images: int) -> str:
    files = shorten_names([candidate.file for candidate in groups[0]], 3)
    joined = shorten_names([posixpath.basename(candidate.file) for group in groups[1:] for candidate in group], 3)
    more = f", joined with {joined}" if joined else ""
    return f"{files}: column {id} names {labelled:,} of {images:,} images{more}"
