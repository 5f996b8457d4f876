"""Cells that say yes or no: words that do so only as the two values of one column."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from typing import NamedTuple


class _Pair(NamedTuple):
    yes: frozenset[str]
    no: frozenset[str]


def _pair(yes: str, no: str) -> _Pair:
    return _Pair(frozenset(yes.split()), frozenset(no.split()))


# In lower case. "no" is a class among others, and so is "present"; next to its partner alone it is an answer.
_CERTAIN = (_pair("true", "false"), _pair("yes", "no"))  # either of these is an answer by itself
_PAIRS = (
    *_CERTAIN,
    _pair("y", "n"),
    _pair("t", "f"),
    _pair("positive", "negative"),
    _pair("present", "absent"),
    _pair("with", "without"),
    _pair("ja", "nein"),
    _pair("ja", "nee"),
    _pair("ja", "nej nei"),
    _pair("oui", "non"),
    _pair("si sí sì", "no"),
    _pair("sim", "não nao"),
    _pair("да", "нет"),
    _pair("tak", "nie"),
    _pair("evet", "hayır"),
    _pair("是", "否"),
    _pair("はい", "いいえ"),
    _pair("예 네", "아니오 아니요"),
    _pair("wahr", "falsch"),
    _pair("vrai", "faux"),
    _pair("✓ ✔ ☑ ✅", "✗ ✘ ✕ ✖ ☒ ☐ ❌ x ×"),
)
_UNSURE = frozenset(
    {"unsure", "not sure", "uncertain", "unclear", "maybe", "indeterminate", "don't know", "can't tell"}
)


def answers(values: Iterable[str]) -> dict[str, bool | None]:
    """Return value → whether it says yes, in lower case, for all values of a column; empty if they are no answers.

    Words such as "unsure" beside a yes and a no are None.
    """
    words = set(map(_folded, values))
    unsure = words & _UNSURE
    words -= unsure
    for pair in _PAIRS:
        yes, no = words & pair.yes, words & pair.no
        both = yes and no
        if words and words <= pair.yes | pair.no and (both or (pair in _CERTAIN and not unsure)):
            return dict.fromkeys(yes, True) | dict.fromkeys(no, False) | dict.fromkeys(unsure)
    return {}


def answer(text: str, found: Mapping[str, bool | None]) -> bool | None:
    """Return what a cell says, of a column with these `answers`."""
    return found.get(_folded(text))


def _folded(text: str) -> str:
    """Return a word in lower case, and a tick without the sign that makes it an emoji."""
    return unicodedata.normalize("NFC", text).strip().lower().replace("\ufe0f", "")


def numbers_that_answer(numbers: Iterable[float]) -> dict[float, bool]:
    """Return number → whether it says yes, of 0 and 1, or of -1 and 1, next to which 0 says nothing; else empty."""
    found = set(numbers)
    if found == {0, 1}:
        return {1: True, 0: False}
    return {1: True, -1: False} if found in ({-1, 1}, {-1, 0, 1}) else {}
