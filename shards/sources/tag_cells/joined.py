"""Tell lists from names where the sign between the entries says little: words and numbers with blanks between them.

``clear primary road`` is a list if ``primary`` ends some cells and stands before other words in others: in the names of
things, such as ``golden retriever``, a noun comes last and its modifiers come before it. Numbers are a list if cells
differ in length: ``16 0`` beside ``25``.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

FREE_TAGS, FREE_CLASSES, FREE_DOUBTS = 1 / 3, 1 / 2, 1 / 4  # of the words: they stand anywhere in a list

_NUMBERS = {"blanks": r"\s+", ";": r"\s*;\s*", "|": r"\s*\|\s*", ",": r"\s*,\s*"}
_NUMBER = r"(?:0|[1-9]\d{0,3})"
_RECURRING = 0.8  # of the entries of lists
_LEAST = 3  # lists, and words that stand anywhere
_RARE = 0.02  # of the cells
_SIGNS = re.compile(r"[,;؛；|\t\r\n、،，/+#·•・]")  # that separate tags better than blanks do
_SENTENCE = re.compile(
    r"[.!?](?=\s|$)|(?<!\S)(?:an?|the|of|in|on|at|to|and|or|with|without|by|for|from|is|are|no|not|its|his|her)(?!\S)",
    re.IGNORECASE,
)


def number_separator(cells: Mapping[str, int]) -> str:
    """Return the name of what separates whole numbers, if all cells are lists of them; "" if not.

    Lists have different lengths, one number among them, and no number twice; most of the numbers recur. Boxes, measures
    and run lengths are not so.
    """
    for name, sign in _NUMBERS.items():
        lists = [(re.split(sign, cell.strip()), count) for cell, count in cells.items() if cell.strip()]
        lengths = {len(one) for one, _ in lists}
        # "0,5" may be a decimal.
        if 1 not in lengths or max(lengths) < (3 if name == "," else 2):
            continue
        if any(len(set(one)) < len(one) or not all(re.fullmatch(_NUMBER, word) for word in one) for one, _ in lists):
            continue
        uses: Counter[str] = Counter()
        for one, count in lists:
            uses.update(dict.fromkeys(one, count))
        recurring = sum(count for count in uses.values() if count > 1)
        if recurring >= _RECURRING * uses.total():
            return name
    return ""


def are_word_lists(cells: Mapping[str, int], free: float) -> bool:
    """Return True if cells are lists of single words, separated by blanks.

    Args:
        cells: the text of each cell → how often it occurs.
        free: the least share of the words that end some cells and stand before others.
    """
    total, texts = sum(cells.values()), [cell.strip() for cell in cells]
    if any(map(_SIGNS.search, texts)) or sum(map(bool, map(_SENTENCE.search, texts))) > _RARE * len(texts):
        return False
    lists = list({tuple(cell.lower().split()): None for cell in texts if cell})
    several = [words for words in lists if len(words) > 1]
    if len(several) < _LEAST or sum(len(set(words)) < len(words) for words in several) > _RARE * len(several):
        return False
    uses = Counter(word for words in lists for word in set(words))
    last = {words[-1] for words in lists}
    before = {word for words in several for word in words[:-1]}
    listed = [word for words in several for word in words]
    anywhere = last & before
    return (
        2 * len(uses) <= total
        and not all(re.fullmatch(r"[-+\d.:]+", word) for word in uses)
        and sum(uses[word] > 1 for word in listed) >= _RECURRING * len(listed)
        and len(anywhere) >= max(_LEAST, free * len(uses))
    )


def share_numbers(values: Iterable[str]) -> list[str]:
    """Return the values that are several whole numbers, if half of these occur in other values too; else nothing."""
    lists = {
        value: re.findall(_NUMBER, value) for value in values if re.fullmatch(rf"{_NUMBER}(?:[\s;|]+{_NUMBER})*", value)
    }
    several = [value for value, numbers in lists.items() if len(numbers) > 1]
    uses = Counter(number for numbers in lists.values() for number in set(numbers))
    listed = [number for value in several for number in lists[value]]
    return several if 2 * sum(uses[number] > 1 for number in listed) >= len(listed) else []
