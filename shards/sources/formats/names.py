"""Labels in the names of images: --from-name '{age}_{gender}_*'."""

from __future__ import annotations

import math
from dataclasses import replace

from shards.core.errors import UserError
from shards.sources.cells import shorten_names
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.layout.name_pattern import NamePattern
from shards.sources.options import ScanOptions
from shards.sources.rows import LABEL, TAGS, TEXT, RowCollector
from shards.sources.source_format import SourceFormat

NAME = "names"


def detect(tree: FileTree, options: ScanOptions) -> str:
    return f"--from-name {options.from_name}" if options.from_name and tree.images else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    if not options.from_name:
        raise UserError(
            "option-missing", "--source names: set --from-name to the pattern of the images' names, such as '{breed}_#'"
        )
    pattern = NamePattern.parse(options.from_name)
    found = {name: row for name in tree.images if (row := pattern.match(name)) is not None}
    if not found:
        first = next(iter(tree.images))
        raise UserError(
            "format-mismatch", f"--from-name {pattern.text!r}: no image has such a name (the first one: {first})"
        )
    _check_numbers(pattern, found, options)
    rows = RowCollector(str(tree.root), replace(options, columns=_columns(pattern, options)), tree.problems)
    images = []
    for name, image in tree.images.items():
        if name not in found:
            tree.problems.add("name-without-labels", name)
        images.append((name, image, rows.add(found[name], name) if name in found else None))
    source = rows.build_source(NAME, images)
    source.evidence = f"{len(found):,} of {len(tree.images):,} names match {pattern.text}"
    return source


def _columns(pattern: NamePattern, options: ScanOptions) -> tuple[str, ...]:
    """Return the fields that are columns to be read; the others have an option or a meaning of their own."""
    taken = {*options.class_, *options.numbers, *options.columns, *LABEL, *TAGS, *TEXT, options.group}
    return (*options.columns, *(field for field in pattern.fields if field not in taken))


def _check_numbers(pattern: NamePattern, found: dict[str, dict[str, str]], options: ScanOptions) -> None:
    """Raise UserError if a field has numbers, and no option says whether they are classes or measurements."""
    for field in pattern.fields:
        if field in (*options.class_, *options.numbers, *options.columns, *LABEL):
            continue
        values = {row[field] for row in found.values()}
        if all(map(_is_number, values)):
            shown = shorten_names(sorted(values), 5)
            raise UserError(
                "column-undecided",
                f"--from-name {pattern.text!r}: {{{field}}} has {len(values):,} numbers ({shown}); set --class {field} "
                f"if they are classes, or --numbers {field} if they are measurements",
            )


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


FORMAT = SourceFormat(NAME, "labels in file names (--from-name)", detect, scan, has_columns=True)
