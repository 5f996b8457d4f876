"""Advice on images whose labels are not found."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from typing import NamedTuple

from shards.core.atomic_io import join_names
from shards.sources.cells import shorten_names
from shards.sources.layout.levels import Layout, read_layout

_NUMBERED = re.compile(r"(.*?[^\W\d_].*?)([ _.-]+\(?)(\d+)(\)?)")
_ENOUGH = 0.9  # of the names that must fit a pattern
_MAX_VALUES = 200


class Proposal(NamedTuple):
    """A pattern for --from-name, and the classes or values that it would find."""

    pattern: str
    finds: str


def describe_layout(names: Collection[str]) -> list[str]:
    """Return clauses that say what the folders and names of unlabelled images look like, and which options help."""
    layout = read_layout(names)
    clauses = _folders(layout)
    if proposal := propose_pattern(names):
        clauses.append(f"--from-name '{proposal.pattern}' would read their names: {proposal.finds}")
    return clauses


def _folders(layout: Layout) -> list[str]:
    clauses = []
    if layout.buckets:
        shown = shorten_names([f"{name}/" for name in layout.buckets], 3)
        clauses.append(f"{shown} only divide the files (if they are classes: --source classes)")
    if layout.parts:
        clauses.append(f"{shorten_names([f'{name}/' for name in layout.parts], 4)} are parts of the dataset")
    return [*clauses, layout.doubt] if layout.doubt else clauses


def propose_pattern(names: Collection[str]) -> Proposal | None:
    """Return a pattern that would find labels in most file names; None if none is plausible."""
    stems = [name.rpartition("/")[2].rpartition(".")[0] for name in names]
    return _class_and_number(stems) or _pieces(stems)


def _class_and_number(stems: list[str]) -> Proposal | None:
    """Return a pattern for names such as blue_hair_0001 or cat.12."""
    found = [match for stem in stems if (match := _NUMBERED.fullmatch(stem))]
    forms = Counter((match[2], match[4]) for match in found)
    if not forms:
        return None
    (separator, end), count = forms.most_common(1)[0]
    classes = Counter(match[1] for match in found if (match[2], match[4]) == (separator, end))
    few = 2 <= len(classes) <= min(_MAX_VALUES * 5, len(stems) // 2)
    if count < _ENOUGH * len(stems) or not few:
        return None
    values = [name for name, _ in classes.most_common()]
    return Proposal(f"{{class}}{separator}#{end}", f"{len(classes):,} classes ({shorten_names(values, 4)})")


def _pieces(stems: list[str]) -> Proposal | None:
    """Return a pattern for names such as 25_0_1_20170116, with few values in some of the pieces."""
    for separator in ("_", "-"):
        rows = [stem.split(separator) for stem in stems]
        length, count = Counter(map(len, rows)).most_common(1)[0]
        if not 3 <= length <= 8 or count < _ENOUGH * len(rows):
            continue
        columns = list(zip(*(row for row in rows if len(row) == length), strict=True))
        values = [set(column) for column in columns]
        few = [at for at, found in enumerate(values) if 2 <= len(found) <= min(_MAX_VALUES, count // 4)]
        if few:
            last = max(few) + 1
            pattern = separator.join(f"{{field{at + 1}}}" for at in range(last))
            shown = join_names([f"field{at + 1} has {len(values[at]):,} values" for at in range(last)])
            return Proposal(pattern + (f"{separator}*" if last < length else ""), f"{shown} (name the fields)")
    return None
