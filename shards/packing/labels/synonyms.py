"""Synonyms: a YAML file that maps tags to other tags, or to nothing."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from shards.core import text_files
from shards.core.errors import UserError
from shards.dataset.schema import WORDLESS, Attribute
from shards.sources.item import Item
from shards.vocabulary.spelling import normalise


def load(path: Path) -> dict[str, str]:
    """Return a mapping from synonym to tag ("" to drop the tag). Chains are resolved; all words are normalised.

    Raises:
        UserError: the file cannot be read, is not a mapping of words, is ambiguous, or has a cycle.
    """
    try:
        content = text_files.read_yaml(path)
    except OSError as error:
        raise UserError("file-unreadable", f"{path}: cannot be read ({error.strerror})") from None
    except text_files.UnreadableText as error:
        raise UserError("invalid-yaml", f"{path} {error}") from None
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
    return {name: _resolve(name, found, path) for name, target in found.items() if name != target}


def _resolve(name: str, found: Mapping[str, str], path: Path) -> str:
    """Return the end of a synonym's chain."""
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


def apply_to_item(item: Item, aliases: Mapping[str, str]) -> Item:
    """Return an item with its tags replaced."""
    tags = None if item.tags is None else _words(item.tags, aliases)
    denied = _words(item.denied, aliases)
    return item if (tags, denied) == (item.tags, item.denied) else replace(item, tags=tags, denied=denied)


def apply_to_attributes(given: Iterable[Attribute], aliases: Mapping[str, str]) -> tuple[Attribute, ...]:
    """Return attributes with their values replaced; if a value occurs twice, the first attribute keeps it."""
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
