"""Which pictures are set aside for validation: whole groups, chosen by seed, close to the share that was asked for."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from shards.core.errors import UserError
from shards.sources.item import Item


def validation(items: Sequence[Item], share: float, seed: int) -> np.ndarray:
    """Choose the validation part. Groups stand in an order that the seed gives them, by their names; each is
    taken that brings the part closer to its share. A picture without a group is a group of its own. A source that has
    grown since may be split in another way.

    Args:
        items: the N pictures.
        share: of all pictures, in [0, 0.5].

    Returns:
        bool (N,).

    Raises:
        UserError: there is but one group.
    """
    chosen = np.zeros(len(items), bool)
    if not share:
        return chosen
    names = [f"item {item.id}" if item.group is None else f"group {item.group}" for item in items]
    sizes = Counter(names)
    if len(sizes) < 2:
        one = next(iter(sizes), "none at all").partition(" ")[2]
        raise UserError(
            "too-few-groups",
            f"--validation {share:g}: all images belong to one group ({one}); a split needs at least two",
        )
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode(errors="replace")).digest())
    wanted, count = share * len(items), 0
    taken: set[str] = set()
    for name in order:
        if abs(count + sizes[name] - wanted) < abs(count - wanted):
            taken.add(name)
            count += sizes[name]
    if not taken:  # even the smallest group is more than twice the share
        taken.add(min(order, key=lambda name: sizes[name]))
    chosen[:] = [name in taken for name in names]
    return chosen
