"""Any table whose rows name the images: CSV, lists, JSON or Parquet, beside the images or above them."""

from __future__ import annotations

from collections.abc import Sequence

from shards.core.errors import UserError
from shards.sources.cells import shorten_names
from shards.sources.class_lists.image_lists import class_files, scan_class_files
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.labelled_tables.candidates import Candidate, disjoint_groups, find_candidates
from shards.sources.labelled_tables.files import unknown_id_error
from shards.sources.labelled_tables.roles import Kind, decide_roles
from shards.sources.labelled_tables.scan import scan_tables
from shards.sources.layout.levels import read_layout
from shards.sources.options import ScanOptions
from shards.sources.source_format import SourceFormat

NAME = "table"

_FEW = 5  # times as many rows as another table has, above which that is not the one with the labels


def detect(tree: FileTree, options: ScanOptions) -> str:
    if not tree.images:
        return ""
    if options.table:
        return f"--table {options.table}"
    every = find_candidates(tree, options, tree.image_names)
    candidates = [one for one in every if _has_labels(one, options)]
    if not candidates and not _has_classes(tree) and (lists := class_files(every)):
        return f"{len(lists)} lists of images, such as {lists[0].candidate.file}"
    if _has_classes(tree):
        candidates = [candidate for candidate in candidates if not candidate.repeats_folders]
        if sum(candidate.rows for candidate in candidates) * 2 < len(tree.images):
            return ""
    if not candidates:
        return ""
    first = candidates[0]
    return f"{first.file}, whose column {first.id} names the images"


def _has_classes(tree: FileTree) -> bool:
    folders = read_layout(tree.images).folders.values()
    return len({tuple(folder.labels) for folder in folders if folder.labels}) > 1


def scan(tree: FileTree, options: ScanOptions) -> Source:
    images = tree.image_names
    files = [named_table(tree, options.table)] if options.table else None
    candidates = find_candidates(tree, options, images, files)
    if not candidates:
        raise _no_table_error(tree, options)
    if not any(_has_labels(one, options) for one in candidates) and (lists := class_files(candidates)):
        return scan_class_files(tree, lists, options, NAME, images)
    groups, unused = _joinable(tree, candidates, options)
    source = scan_tables(tree, groups, options, NAME, images)
    for group in unused:
        if f"class-named-by-list {group[0].file}" not in tree.problems.counts():
            tree.problems.add("table-not-used", group[0].file, count=len(group))
    if not options.table and options.source != NAME:
        _note_unlabelled(tree, source, groups[0][0].file)
    return source


def _note_unlabelled(tree: FileTree, source: Source, file: str) -> None:
    """Note images without a label if class folders would label all of them: which is meant, a person knows."""
    left = [item.id for item in source.items if item.tags is None and item.vector is None and item.caption is None]
    layout = read_layout(tree.images)
    if left and _has_classes(tree) and not layout.doubt and all(folder.labels for folder in layout.folders.values()):
        tree.problems.add("images-left-to-folders", left[0], detail=shorten_names([file]), count=len(left))


def named_table(tree: FileTree, name: str) -> str:
    """Return the file that --table names, as a path below the source."""
    names = [*tree.texts, *tree.containers]
    path = name.removeprefix(f"{tree.root}/").removeprefix("./")
    found = [one for one in names if one == path] or [one for one in names if one.endswith(f"/{path}")]
    if len(found) != 1:
        tables = shorten_names([one for one in names if one.lower().endswith((".csv", ".tsv", ".jsonl", ".parquet"))])
        what = f"fits {shorten_names(found)}" if found else "is not there"
        raise UserError("table-missing", f"--table {name}: {what} below {tree.root}; tables there: {tables or 'none'}")
    return found[0]


def _joinable(
    tree: FileTree, candidates: Sequence[Candidate], options: ScanOptions
) -> tuple[list[list[Candidate]], list[list[Candidate]]]:
    """Return tables that are parts of one, the one with the labels first, then those that add columns; and all others.

    Raises:
        UserError: several tables have labels, in columns of the same names.
    """
    groups = list(disjoint_groups(candidates))
    most = max(map(_rows, groups))
    few = lambda group: _rows(group) * _FEW < most  # noqa: E731 - such as a table of the classes' own images
    groups.sort(key=lambda group: (few(group), -_value(group[0], options), -_rows(group)))
    first, joined, taken = groups[0], [groups[0]], _names(groups[0][0])
    unused: list[list[Candidate]] = []
    for group in groups[1:]:
        if _rows(group) * 2 < _rows(first):
            unused.append(group)
        elif taken.isdisjoint(_names(group[0])) and not (_labels(first[0], options) & _labels(group[0], options)):
            joined.append(group)
            taken |= _names(group[0])
        elif _has_labels(group[0], options):
            raise _ambiguous_error(tree, groups, options)
        else:
            unused.append(group)
    return joined, unused


def _rows(group: Sequence[Candidate]) -> int:
    return sum(candidate.rows for candidate in group)


def _names(candidate: Candidate) -> set[str]:
    """Return the names of the columns besides the ids; a column without a name has its file's."""
    if not candidate.has_header:
        return {candidate.stem.lower()}
    return {name.lower() for name in candidate.columns if name != candidate.id} - {n.lower() for n in candidate.unnamed}


def _kinds(candidate: Candidate, options: ScanOptions) -> set[Kind]:
    named = {*options.class_, *options.numbers, *options.columns}
    roles = decide_roles(candidate.facts, candidate.id, candidate.unnamed)
    found = {Kind.CLASS if name in named else role.kind for name, role in roles.items()}
    if not candidate.has_header and any(word in candidate.stem.lower() for word in ("partition", "identity")):
        return {Kind.GROUP if "identity" in candidate.stem.lower() else Kind.PART}
    return found


def _labels(candidate: Candidate, options: ScanOptions) -> set[Kind]:
    return _kinds(candidate, options) & {Kind.TAGS, Kind.CLASS, Kind.CAPTION}


def _has_labels(candidate: Candidate, options: ScanOptions) -> bool:
    return bool(_kinds(candidate, options) & {Kind.TAGS, Kind.CLASS, Kind.CAPTION, Kind.YES_NO})


def _value(candidate: Candidate, options: ScanOptions) -> int:
    """Return how much a table has to say of the images."""
    kinds = _kinds(candidate, options)
    return 4 * (Kind.TAGS in kinds) + 3 * (Kind.CLASS in kinds) + 2 * (Kind.YES_NO in kinds) + (Kind.CAPTION in kinds)


def _ambiguous_error(tree: FileTree, groups: Sequence[Sequence[Candidate]], options: ScanOptions) -> UserError:
    readings = "; ".join(
        f"--table {group[0].file}: columns {shorten_names(group[0].columns, 6)}, such as "
        f"{shorten_names([str(value) for value in group[0].example.values()], 6)}"
        for group in groups
        if _has_labels(group[0], options)
    )
    return UserError("ambiguous-table", f"{tree.root}: several tables label the images; choose one ({readings})")


def _no_table_error(tree: FileTree, options: ScanOptions) -> UserError:
    names = shorten_names(list(tree.images)[:3])
    if options.table:
        file = named_table(tree, options.table)
        if error := unknown_id_error(tree, options, [file]):
            return error
        if file in tree.unusable:
            raise UserError("no-row-matches", f"--table {file}{tree.unusable[file]}")
        column = f"its column {options.id}" if options.id else "no column of it"
        return UserError(
            "no-row-matches",
            f"--table {options.table}: {column} names images such as {names}; set --id to the column of their names",
        )
    return UserError("format-mismatch", f"{tree.root}: no table names images such as {names}; set --table and --id")


FORMAT = SourceFormat(
    NAME,
    "any table whose rows name the images (CSV, lists, JSON, Parquet)",
    detect,
    scan,
    has_columns=True,
    general=True,
)
