"""Synonyms: a YAML file that says which tag stands for which, or that a tag means nothing."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from shards.core.errors import UserError
from shards.dataset.schema import WORDLESS, Attribute, normalise
from shards.sources.item import Item

_LARGEST = 64 << 20  # bytes of an alias file


def load(path: Path) -> dict[str, str]:
    """Tag → the tag that stands for it, "" for none; chains are followed to their end, all is normalised.

    Raises:
        UserError: the file cannot be read, is no mapping of words, says two things of a tag, or runs in a circle.
    """
    import yaml

    try:
        if path.stat().st_size > _LARGEST:
            raise UserError(
                "file-too-large", f"{path}: larger than {_LARGEST:,} bytes, the limit for a file of synonyms"
            )
        content = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise UserError("file-unreadable", f"{path}: cannot be read ({error.strerror})") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError("invalid-yaml", f"{path}: not valid YAML ({' '.join(str(error).split())[:300]})") from None
    if not isinstance(content, dict):
        raise UserError(
            "invalid-synonyms", f'{path}: write lines like `azure hair: blue hair`, or `azure hair: ""` to drop a tag'
        )
    found: dict[str, str] = {}
    for synonym, tag in content.items():
        for word in (synonym, "" if tag is None else tag):
            if not isinstance(word, str):
                raise UserError("invalid-synonyms", f"{path}: {reprlib.repr(word)} is not a string; put it in quotes")
        name, target = normalise(synonym), normalise(tag or "")
        if not name:
            raise UserError("invalid-synonyms", f"{path}: the synonym of {target!r} is empty")
        if found.setdefault(name, target) != target:
            raise UserError(
                "invalid-synonyms", f"{path}: {name!r} stands for both {found[name]!r} and {target!r}; remove one"
            )
    return {name: _end(name, found, path) for name, target in found.items() if name != target}


def _end(name: str, found: Mapping[str, str], path: Path) -> str:
    """Where the chain of a synonym ends."""
    chain = {name: None}
    while (target := found.get(name, name)) != name:
        if target in chain:
            raise UserError(
                "invalid-synonyms",
                f"{path}: {' → '.join([*chain, target][:8])} is a cycle; one of them must be the tag itself",
            )
        chain[target] = None
        name = target
    return name


def applied(item: Item, aliases: Mapping[str, str]) -> Item:
    """An item with every tag replaced by what it stands for."""
    tags = None if item.tags is None else _words(item.tags, aliases)
    denied = _words(item.denied, aliases)
    return item if (tags, denied) == (item.tags, item.denied) else replace(item, tags=tags, denied=denied)


def attributes(given: Iterable[Attribute], aliases: Mapping[str, str]) -> tuple[Attribute, ...]:
    """Attributes with every value replaced by what it stands for; a word stays with the first that has it."""
    taken: set[str] = set()
    kept = []
    for attribute in given:
        values = tuple(word for word in _words(attribute.values, aliases) if word not in taken)
        taken.update(values)
        if values or attribute.kind in WORDLESS:
            kept.append(replace(attribute, values=values))
    return tuple(kept)


def _words(words: tuple[str, ...], aliases: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(word for word in dict.fromkeys(aliases.get(word, word) for word in words) if word)
