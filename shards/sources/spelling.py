"""Names of classes that differ by their letters' case alone: "A" and "a", "\\Pi" and "\\pi"."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection

from shards.sources.cells import sanitize
from shards.vocabulary.spelling import normalise

_SYSTEMATIC = 3  # pairs that differ by case alone: that many are no slips of the keyboard
_ABBREVIATED = ({"m", "f", "u", "x", "o"}, {"y", "n"}, {"t", "f"}, {"l", "r"})  # letters that stand for words


def words_by_case(names: Collection[str], apart: Collection[str] = ()) -> dict[str, str]:
    """Return name → its word in a label, which differs for names that mean different classes.

    Words have no case (see `normalise`), so that "A" and "a" become "capital a" and "small a" where both occur. Names
    of several letters are kept apart only if three or more pairs of them differ by case alone: one pair such as "Male"
    and "male" is one class, and the names share a word. So are "M" and "m" of a column of M and F.

    Args:
        names: all different names of one exclusive attribute.
        apart: words whose names are known to be different classes, whatever their number; see `cased_words`.
    """
    spelled = _spellings(names)
    cased = cased_words(names)
    systematic = len(cased) >= _SYSTEMATIC
    letters = {word for word in spelled if sum(map(str.isalpha, word)) == 1}
    if any(letters <= abbreviated for abbreviated in _ABBREVIATED):
        letters = set()
    apart = {word for word in cased if systematic or word in apart or word in letters}
    words = {}
    for name in names:
        word = normalise(sanitize(name))
        words[name] = _cased_word(_spelling(name), word, len(spelled[word])) if word in apart else word
    return words


def cased_words(names: Collection[str]) -> set[str]:
    """Return the words that names with different case share."""
    return {word for word, spellings in _spellings(names).items() if len(spellings) > 1}


def merged_by_case(words: dict[str, str]) -> list[tuple[str, ...]]:
    """Return the groups of names that share a word though their case differs, for reports."""
    groups: dict[str, list[str]] = {}
    for name, word in words.items():
        groups.setdefault(word, []).append(name)
    return sorted(tuple(sorted(names)) for names in groups.values() if len(names) > 1)


def _spellings(names: Collection[str]) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name in names:
        found.setdefault(normalise(sanitize(name)), set()).add(_spelling(name))
    return found


def _spelling(name: str) -> str:
    """Return a name normalised in all but case."""
    return " ".join(unicodedata.normalize("NFC", sanitize(name)).replace("_", " ").replace(",", " ").split())


def _cased_word(spelling: str, word: str, spellings: int) -> str:
    if spelling == spelling.lower():
        return f"small {word}"
    if spellings == 2:
        return f"capital {word}"
    capitals = [str(at) for at, letter in enumerate(spelling, 1) if letter != letter.lower()]
    return f"{word} (capitals {' '.join(capitals)})"
