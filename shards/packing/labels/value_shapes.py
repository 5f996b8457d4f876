"""Values that are more than one word: lists, boxes, hashes, paths, dates, numbers, several words joined into one."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from shards.sources.tag_cells.joined import FREE_DOUBTS, are_word_lists, share_numbers
from shards.sources.text.units import is_measured

SEPARATORS = ("|", ";", "/", "+", "，", "、")
_SHARE = 0.1  # of the values that must look odd
_LEAST = 2  # values that must look odd
_MEASURED_LEAST = 5  # values with a unit: "1 pound" and "2 pounds" are names of coins
_BLANK_LEAST, _BLANK_WORDS = 8, 0.8  # values that combine few words: so many at least, so many words per value at most

_SHAPES = {
    "lists or JSON": re.compile(r"[\[{(]\s*(?:['\"].*|.*['\"]|.*:.*)[\]})]|[\[{].*[\]}]"),
    "boxes or coordinates": re.compile(r"(?:[-+]?\d*\.?\d+[\s:x]+){3,}[-+]?\d*\.?\d+"),
    "hashes": re.compile(r"(?=.*\d)(?=.*[a-f])[0-9a-f]{16,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    "paths or URLs": re.compile(
        r"[a-z]+://.+|[a-z]:[\\/].+|(?:\.{0,2}[\\/])\S+[\\/].+|.+\.(?:jpe?g|png|webp|gif|bmp|tiff?|txt|json)"
    ),
    "dates": re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}(?:[ t].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}"),
    "measured numbers": re.compile(r"[-+]?\d*\.\d+(?:e[-+]?\d+)?"),
}


def odd_shapes(values: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return (what they look like, the values) for each shape that more than a few of the values have."""
    found = []
    for shape, pattern in _SHAPES.items():
        alike = [value for value in values if pattern.fullmatch(value)]
        if _are_many(alike, values):
            found.append((shape, alike))
    measured = [value for value in values if is_measured(value) or is_measured(value.replace(" ", ".", 1))]  # "1,7 m"
    if len(measured) >= _MEASURED_LEAST and _are_many(measured, values):
        found.append(("numbers with a unit", measured))
    return found


def shared_separator(values: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the separator that joins several words in one value, and the values that have it; None if none does.

    The parts must recur: "action|comedy" and "comedy|drama" are combinations, "a/b testing" is not.
    """
    for separator in SEPARATORS:
        joined = [value for value in values if separator in value]
        parts = {value: [part.strip() for part in value.split(separator)] for value in joined}
        joined = [value for value in joined if all(parts[value])]
        if not _are_many(joined, values):
            continue
        alone = set(values) - set(joined)
        uses = Counter(part for value in joined for part in set(parts[value]))
        recurring = [value for value in joined if all(uses[part] > 1 or part in alone for part in parts[value])]
        hardly_in_names = separator in "|;" and any(uses[part] > 1 or part in alone for part in uses)
        if 2 * len(recurring) > len(joined) or hardly_in_names:
            return separator, joined
    return None


def combine_words(values: Sequence[str]) -> list[str]:
    """Return the values if they combine few words in many ways, as "young male" and "old male" do; else nothing.

    Values of one noun ("light blue hair", "dark blue hair") are shades rather than combinations unless they are longer.
    """
    numbers = share_numbers(values)
    if _are_many(numbers, values):
        return numbers
    joined = [value for value in values if " " in value]
    known = set(values)
    of_values = [value for value in joined if all(word in known for word in value.split())]
    if _are_many(of_values, values):  # "scab rust" beside "scab" and "rust"
        return of_values
    if are_word_lists(dict.fromkeys(values, 2), FREE_DOUBTS):
        return joined
    words = [value.split() for value in values]
    if words and all(len(one) > 1 for one in words) and len({one[-1] for one in words}) == 1:
        words = [one[:-1] for one in words]
        if sum(map(len, words)) < 3 * len(words):
            return []
    several = [number for number, one in enumerate(words) if len(one) > 1]
    uses = Counter(word for number in several for word in set(words[number]))
    many = len(several) >= max(_BLANK_LEAST, 0.8 * len(values))
    few_words = len(uses) <= _BLANK_WORDS * len(several)
    recurring = sum(count > 1 for count in uses.values())
    if many and few_words and recurring >= 0.9 * len(uses):
        return [values[number] for number in several]
    return []


def _are_many(some: Sequence[str], values: Sequence[str]) -> bool:
    return len(some) >= _LEAST and len(some) >= _SHARE * len(values)
