"""Select validation images: whole groups, chosen by seed, close to the requested fraction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from shards.core.errors import UserError
from shards.sources.item import Item


def select_validation(items: Sequence[Item], fraction: float, seed: int) -> np.ndarray:
    """Select the validation part.

    Groups are visited in an order given by the seed and their names, and each is selected if that brings the part
    closer to its fraction. An image without a group is its own group. A source that has grown may be split differently.

    Args:
        items: the N images.
        fraction: of all images, in [0, 0.5].

    Returns:
        bool (N,).

    Raises:
        UserError: there is only one group.
    """
    chosen = np.zeros(len(items), bool)
    if not fraction:
        return chosen
    names = [f"item {item.id}" if item.group is None else f"group {item.group}" for item in items]
    sizes = Counter(names)
    if len(sizes) < 2:
        one = next(iter(sizes), "none at all").partition(" ")[2]
        raise UserError(
            "too-few-groups",
            f"--validation {fraction:g}: all images belong to one group ({one}); a split needs at least two",
        )
    order = sorted(sizes, key=lambda name: hashlib.sha256(f"{seed} {name}".encode(errors="replace")).digest())
    wanted, count = fraction * len(items), 0
    taken: set[str] = set()
    for name in order:
        if abs(count + sizes[name] - wanted) < abs(count - wanted):
            taken.add(name)
            count += sizes[name]
    if not taken:  # even the smallest group is more than twice the fraction
        taken.add(min(order, key=lambda name: sizes[name]))
    chosen[:] = [name in taken for name in names]
    return chosen
