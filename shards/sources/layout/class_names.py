"""From the folders that say what images show to the words of their labels."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from shards.core.problems import Problems
from shards.dataset.schema import Attribute
from shards.sources.layout.levels import Folder, Layout
from shards.sources.spelling import cased_words, merged_by_case, words_by_case
from shards.vocabulary.spelling import normalise

_COPY = re.compile(r"(.+?)(?: \(\d{1,2}\)| - Copy| copy)")  # how file managers name a second folder
_NUMBERED = re.compile(r"(?:\d+[ ._-]+|n\d{8}[ ._-]+)(\S.*)")


@dataclass
class Classes:
    """The labels that folders give.

    Attributes:
        tags: path of a folder → the words of its images, the class first.
        attributes: the levels above the class, where there are several.
        names: the words that are classes.
    """

    tags: dict[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: tuple[Attribute, ...] = ()
    names: tuple[str, ...] = ()


def name_classes(
    layout: Layout, synsets: Mapping[str, str], problems: Problems, listed: Mapping[str, str] | None = None
) -> Classes:
    """Return the words of all folders of a layout; count what is interpreted.

    The innermost folder is the class. Folders above it are attributes too, "folder" (or "folder 1", "folder 2", …), if
    all classes have equally many. If they have not, the names along the path are joined: "apartment building outdoor".

    Args:
        layout: what the folders are.
        synsets: names of WordNet ids that folders may have.
        problems: counts what is interpreted.
        listed: names that a list gives to folders whose names are numbers.
    """
    labelled = [folder for folder in layout.folders.values() if folder.labels]
    if not labelled:
        return Classes()
    levels = _columns(labelled, problems)
    parts = [folder.part or "" for folder in labelled]
    words = [_level_words(level, parts, synsets, listed or {}, problems) for level in levels]
    upper = [f"folder {number}" for number in range(1, len(levels))] if len(levels) > 2 else ["folder"]
    attributes = []
    for name, level in zip(upper, words, strict=False):
        if level is not words[-1]:
            taken = {*words[-1], *(value for attribute in attributes for value in attribute.values)}
            level[:] = [f"{word} ({name})" if word in taken else word for word in level]
            values = tuple(sorted(set(level)))
            attributes.append(Attribute(name, "exclusive", values))
            for value in values:
                problems.add("folder-level-is-attribute", value, detail=repr(name))
    tags = {folder.path: tags for folder, tags in zip(labelled, zip(*reversed(words), strict=True), strict=True)}
    return Classes(tags, tuple(attributes), tuple(sorted(set(words[-1]))))


def _columns(labelled: Collection[Folder], problems: Problems) -> list[list[str]]:
    """Return one list per level with the name of each folder in it, without levels that tell nothing apart."""
    depths = {len(folder.labels) for folder in labelled}
    if len(depths) > 1:
        for folder in labelled:
            if len(folder.labels) > 1:
                problems.add("folder-names-joined", "/".join(folder.labels))
        return [[" ".join(folder.labels) for folder in labelled]]
    levels = [[folder.labels[depth] for folder in labelled] for depth in range(depths.pop())]
    telling = [level for level in levels if len(set(level)) > 1]
    for level in levels:
        if telling and len(set(level)) == 1:
            problems.add("folder-tells-nothing", level[0])
    return telling or levels[-1:]


def _level_words(
    level: list[str], parts: list[str], synsets: Mapping[str, str], listed: Mapping[str, str], problems: Problems
) -> list[str]:
    level = _without_copies(level, problems)
    names = set(level)
    shown = _named_synsets(names, synsets) or _without_numbers(names)
    code = "class-named-by-synset" if names <= synsets.keys() else "folder-number-removed"
    for name in sorted(shown):
        problems.add(code, f"{name}: {shown[name]}")
    shown = shown or {name: listed.get(name, name) for name in names}
    words = _words(level, shown, parts, problems)
    return [words[shown[name]] for name in level]


def _words(level: list[str], shown: Mapping[str, str], parts: list[str], problems: Problems) -> dict[str, str]:
    """Return name → word; folders of one part of the dataset that differ by case are different classes."""
    by_part: dict[str, set[str]] = {}
    for name, part in zip(level, parts, strict=True):
        by_part.setdefault(part, set()).add(shown[name])
    names = sorted(set(shown.values()))
    words = words_by_case(names, set[str]().union(*map(cased_words, by_part.values())))
    for name in names:
        if words[name] != normalise(name):
            problems.add("case-kept-apart", f"{name}: {words[name]}")
    for group in merged_by_case(words):
        problems.add("class-names-merged", " and ".join(group))
    return words


def _without_copies(level: list[str], problems: Problems) -> list[str]:
    """Return folder names with "fox (2)" as "fox", where that exists too."""
    names = set(level)
    copies = {name: found[1] for name in names if (found := _COPY.fullmatch(name)) and found[1] in names}
    for name in sorted(copies):
        problems.add("folder-is-copy", f"{name}: {copies[name]}")
    return [copies.get(name, name) for name in level]


def _named_synsets(names: set[str], synsets: Mapping[str, str]) -> dict[str, str]:
    """Return folder → name if all folders are WordNet ids with different names."""
    if not all(name in synsets for name in names):
        return {}
    first = {name: synsets[name].split(",")[0].strip() for name in names}
    for one in (first, {name: synsets[name] for name in names}):
        if len({value.lower() for value in one.values()}) == len(names):
            return one
    return {name: f"{first[name]} ({name})" for name in names}


def _without_numbers(names: set[str]) -> dict[str, str]:
    """Return folder → name without the number before it, if all have one and the names stay different; else nothing."""
    found = {name: match[1] for name in names if (match := _NUMBERED.fullmatch(name))}
    different = len({name.lower() for name in found.values()}) == len(names)
    return found if len(found) == len(names) and different and not any(n.isdecimal() for n in found.values()) else {}
