"""Read the record of one image as programs store it in JSON: downloaders, image boards, annotation tools."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from shards.core.problems import Problems
from shards.sources.tag_cells.namespaces import KEPT, LEFT_OUT

CAPTIONS = ("caption", "text", "prompt", "description", "alt_text")  # keys of captions, the best one first

_NUMBERED = {"0": "general", "1": "artist", "3": "copyright", "4": "character", "5": "meta"}  # Danbooru's categories
_BY_CATEGORY = re.compile(r"(?:tags|tag_string)_(\w+)")
_DEEPEST = 3  # levels of objects whose values become columns
_MAX_COLUMNS = 1000


def row_of(record: Any, problems: Problems, at: str) -> dict[str, Any]:
    """Return a record as a row of a table: ``tags``, ``text`` and all other values by their keys.

    Tags of categories that say nothing of the image (its artist, its file) are counted and left out.

    Args:
        record: an object, or a list of tags, or a list whose first entry is an object.
        problems: counts what is left out.
        at: the record's name in reports.
    """
    if isinstance(record, list) and record and isinstance(record[0], dict):
        if len(record) > 1:
            problems.add("record-of-several", at)
        record = record[0]
    if isinstance(record, list):
        record = {"tags": record}
    if not isinstance(record, dict):
        return {}
    row = dict(_flat(record))
    tags = _tags(record)
    if tags is not None:
        row["tags"] = _kept(tags, problems, at) if isinstance(tags, list) else tags
    text = next((row[key] for key in CAPTIONS if isinstance(row.get(key), str) and row[key].strip()), None)
    if text is not None:
        row["text"] = text
    return row


def _flat(record: Mapping[str, Any], prefix: str = "", depth: int = 0) -> Iterable[tuple[str, Any]]:
    """Yield (key, value) of an object, with dotted keys for objects in it."""
    for key, value in list(record.items())[:_MAX_COLUMNS]:
        if isinstance(value, dict) and key not in ("tags", "label", "labels"):
            if depth < _DEEPEST:
                yield from _flat(value, f"{prefix}{key}.", depth + 1)
        elif not (isinstance(value, list) and any(isinstance(one, dict | list) for one in value)) or key == "tags":
            yield f"{prefix}{key}", value


def _tags(record: Mapping[str, Any]) -> list[tuple[str, str]] | str | None:
    """Return (category, tag) of all tags, a text that is not yet split, or None."""
    by_category = {found[1]: value for key, value in record.items() if (found := _BY_CATEGORY.fullmatch(key))}
    if by_category.keys() & {"general", "character"}:
        return [(category, tag) for category, value in by_category.items() for tag in _words(value)]
    tags = record.get("tags")
    if isinstance(tags, dict):
        return [
            (category if category in KEPT | LEFT_OUT else "", tag)
            for category, value in tags.items()
            for tag in _words(value)
        ]
    if isinstance(tags, list):
        return [pair for tag in tags for pair in _of_entry(tag)]
    if isinstance(tags, str):
        return tags
    if isinstance(string := record.get("tag_string"), str):
        return [("", tag) for tag in string.split()]
    if isinstance(traits := record.get("attributes"), list) and any(map(_is_trait, traits)):
        return [("", f"{trait['value']} {trait['trait_type']}") for trait in traits if _is_trait(trait)]
    if isinstance(shapes := record.get("shapes"), list):
        return [("", str(shape["label"])) for shape in shapes if isinstance(shape, dict) and "label" in shape]
    return None


def _is_trait(entry: Any) -> bool:
    """Return True for {"trait_type": "Hair", "value": "Mohawk"}, as the metadata of tokens has it; numbers are none."""
    return isinstance(entry, dict) and isinstance(entry.get("trait_type"), str) and isinstance(entry.get("value"), str)


def _words(value: Any) -> list[str]:
    """Return the tags of one category: a list, or a text with blanks between them."""
    if isinstance(value, str):
        return value.split("," if "," in value else None)
    if isinstance(value, dict):
        return [word for one in value.values() for word in _words(one)]
    return [tag for one in value for _, tag in _of_entry(one)] if isinstance(value, list) else []


def _of_entry(entry: Any) -> list[tuple[str, str]]:
    """Return (category, tag) of an entry of a list: a word, perhaps with a namespace, or an object with a name."""
    if isinstance(entry, dict):
        name = next((entry[key] for key in ("name", "tag", "label", "value") if isinstance(entry.get(key), str)), None)
        category = str(entry.get("category") or entry.get("type") or "0")
        return [] if name is None else [(_NUMBERED.get(category, category), name)]
    if not isinstance(entry, str):
        return []
    namespace, colon, rest = entry.partition(":")
    if colon and rest and namespace.strip().lower() in KEPT | LEFT_OUT:
        return [(namespace.strip().lower(), rest)]
    return [("", entry)]


def _kept(tags: list[tuple[str, str]], problems: Problems, at: str) -> list[str]:
    for category, tag in tags:
        if category in LEFT_OUT:
            problems.add("tag-of-category", f"{at}: {tag}", detail=category)
    return [tag for category, tag in tags if category not in LEFT_OUT]
