"""Namespaces of tags: ``artist:bob`` and lines such as ``general: blue_hair, smile``, as image boards write them."""

from __future__ import annotations

import re
from collections.abc import Iterable

KEPT = frozenset("general character copyright series species person clothing studio".split())
LEFT_OUT = frozenset(
    "artist creator meta metadata lore invalid deprecated contributor circle rating title page source medium language "
    "date site rank".split()
)

_OF_LINES = KEPT | {"tag", "tags"}
_LINE = re.compile(r"\s*([A-Za-z][A-Za-z _]{0,20}?)\s*:\s*(.*)")
_NUMBER = re.compile(r"[\d.,\s%]*")
_SEVERAL = re.compile(r"[,;|，、]")
_MOSTLY = 0.9  # of the texts


def split_namespace(tag: str) -> tuple[str, str]:
    """Return the namespace of a tag, "" if it has none that is known, and the rest; ``person:0.9`` has a weight."""
    namespace, colon, rest = tag.partition(":")
    namespace, rest = namespace.strip().lower(), rest.strip()
    if colon and rest and (namespace in LEFT_OUT or (namespace in KEPT and not _NUMBER.fullmatch(rest))):
        return namespace, rest
    return "", tag


def line_joiner(texts: Iterable[str]) -> str:
    """Return what joins the tags of texts that have one line per namespace: a line end or a blank; "" for others.

    On such lines, the namespace is that of all tags. A text of one line, such as ``artist:bob, blue hair``, does not
    say so, unless it begins with ``general:``.
    """
    rows = fitting = several = 0
    listed = underscored = False
    for text in texts:
        lines = [_LINE.fullmatch(line) for line in text.splitlines() if line.strip()]
        rows += bool(lines)
        found = {line[1].lower() for line in lines if line}
        fitting += bool(lines) and all(lines) and bool(found & (_OF_LINES | LEFT_OUT))
        several += len(lines) > 1 or found == {"general"}
        rest = [line[2] for line in lines if line and line[1].lower() in _OF_LINES]
        listed = listed or any(map(_SEVERAL.search, rest))
        underscored = underscored or any("_" in tags for tags in rest)
    if not rows or fitting < _MOSTLY * rows or several * 2 <= rows:
        return ""
    return " " if underscored and not listed else "\n"


def tags_of_lines(text: str, joiner: str) -> str:
    """Return a text of lines with namespaces as its tags; those of `LEFT_OUT` have the namespace before each."""
    tags: list[str] = []
    for line in filter(str.strip, text.splitlines()):
        found = _LINE.fullmatch(line)
        namespace = found[1].lower() if found else ""
        if found and namespace in LEFT_OUT:
            several = found[2].split() if joiner == " " else _SEVERAL.split(found[2])
            tags += [f"{namespace}:{tag.strip()}" for tag in several if tag.strip()]
        else:
            tags.append(found[2] if found and namespace in _OF_LINES else line)
    return joiner.join(filter(None, tags))
