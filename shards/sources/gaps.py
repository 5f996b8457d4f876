"""Cells of tables that say nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

_EMPTY = frozenset({"", "-", "--", "?", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "null", "unknown", "undefined"})

_PERHAPS = frozenset({"missing", "not available", "unlabeled", "unlabelled", "tbd", "n.d.", "n/d"})
_FEWEST = 2  # other values that make them gaps: a tooth is "missing" or "intact", and an image "labeled" or "unlabeled"


def gaps_among(values: Iterable[Any]) -> frozenset[str]:
    """Return the values of a column, in lower case, that are gaps beside its other values, such as "missing"."""
    words = {value.strip().lower() for value in values if isinstance(value, str) and not says_nothing(value)}
    return frozenset(words & _PERHAPS) if len(words - _PERHAPS) >= _FEWEST else frozenset()


def is_none(value: Any) -> bool:
    """Return True for the word none: in a column of words such as glasses it is a value, elsewhere a gap."""
    return isinstance(value, str) and value.strip().lower() == "none"


def says_nothing(value: Any) -> bool:
    """Return True for a cell that is empty where words are no values."""
    return is_empty(value) or is_none(value)


def is_empty(value: Any) -> bool:
    """Return True for a cell that says nothing in any column: NA, nan, null, unknown, "?", "-" or blanks."""
    if isinstance(value, str):
        return len(value) < 12 and value.strip().lower() in _EMPTY
    return value is None or (isinstance(value, float) and math.isnan(value))


def doubtful_gap(value: Any) -> str:
    """Return the code to report a cell of a column of words by, if it may be a gap or a value; else ""."""
    if is_none(value):
        return "cell-none"
    return "cell-not-known" if isinstance(value, str) and value.strip() and is_empty(value) else ""
