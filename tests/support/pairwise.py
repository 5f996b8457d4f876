"""Few combinations of options in which every pair of values occurs."""

from __future__ import annotations

import functools
import itertools
import operator
from collections.abc import Callable, Mapping, Sequence

Row = dict[str, str]


def pairwise(factors: Mapping[str, Sequence[str]], allowed: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """Return rows of one value per factor that together have every pair of values that an allowed row has.

    Each row is the allowed one with the most new pairs; their number is near the smallest, not the smallest.
    """
    bits: dict[object, int] = {}  # of each pair

    def pairs(row: Row) -> int:
        return sum(1 << bits.setdefault(pair, len(bits)) for pair in itertools.combinations(row.items(), 2))

    every = (dict(zip(factors, values, strict=True)) for values in itertools.product(*factors.values()))
    candidates = [(pairs(row), row) for row in every if allowed(row)]
    missing = functools.reduce(operator.or_, (found for found, _ in candidates))
    chosen = []
    while missing:
        found, row = max(candidates, key=lambda candidate: (candidate[0] & missing).bit_count())
        chosen.append(row)
        missing &= ~found
    return chosen
