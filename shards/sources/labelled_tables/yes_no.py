"""Cells that say yes or no: words that do so only as the two values of one column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class _Pair(NamedTuple):
    yes: frozenset[str]
    no: frozenset[str]


def _pair(yes: str, no: str) -> _Pair:
    return _Pair(frozenset(yes.split()), frozenset(no.split()))


# In lower case. "no" is a class among others, and so is "present"; next to its partner alone it is an answer.
_CERTAIN = (_pair("true", "false"), _pair("yes", "no"))  # either of these is an answer by itself
_PAIRS = (*_CERTAIN, _pair("y", "n"), _pair("t", "f"), _pair("positive", "negative"))


def answers(values: Iterable[str]) -> dict[str, bool]:
    """Return value → whether it says yes, in lower case, for all values of a column; empty if they are no answers."""
    words = {value.lower() for value in values}
    for pair in _PAIRS:
        yes, no = words & pair.yes, words & pair.no
        both = yes and no
        if words and words <= pair.yes | pair.no and (both or pair in _CERTAIN):
            return dict.fromkeys(yes, True) | dict.fromkeys(no, False)
    return {}


def numbers_that_answer(numbers: Iterable[float]) -> dict[float, bool]:
    """Return number → whether it says yes, of 0 and 1, or of -1 and 1, next to which 0 says nothing; else empty."""
    found = set(numbers)
    if found == {0, 1}:
        return {1: True, 0: False}
    return {1: True, -1: False} if found in ({-1, 1}, {-1, 0, 1}) else {}
