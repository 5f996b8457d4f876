"""Select validation images: whole groups, chosen by seed, close to the requested fraction."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence

import numpy as np

from shards.core.errors import UserError
from shards.sources.item import Item, Source
from shards.sources.layout.folder_names import TEST, VALIDATION, names_part

LARGEST_FRACTION = 0.5


def check_validation(wanted: float | str) -> None:
    """Check a value of ``--validation``: a fraction, or the name of a part.

    Raises:
        UserError: it is neither.
    """
    if isinstance(wanted, str) and names_part(wanted) is None:
        raise UserError(
            "invalid-value", f"--validation: {wanted!r} is neither a fraction nor a part such as validation or test"
        )
    if not isinstance(wanted, str) and not 0 <= wanted <= LARGEST_FRACTION:
        raise UserError("invalid-value", f"--validation: {wanted:g} is not a fraction from 0 to {LARGEST_FRACTION}")


def select_validation(source: Source, wanted: float | str, seed: int) -> np.ndarray:
    """Select the validation part: a fraction of the images, or a part that the source itself defines.

    Parts that are not trained on by their names, but are packed for training, are counted in ``source.problems``.

    Returns:
        bool (N,).

    Raises:
        UserError: the source has no such part, or only one group.
    """
    parts = Counter(item.part for item in source.items if item.part)
    chosen = names_part(wanted) if isinstance(wanted, str) else None
    if isinstance(wanted, str) and (chosen is None or parts[chosen] in (0, len(source.items))):
        there = ", ".join(f"{part} ({count:,} images)" for part, count in parts.items()) or "none"
        raise UserError(
            "part-missing",
            f"--validation {wanted}: the source has no such part besides another (its parts: {there}); give one of "
            "them, or a fraction such as 0.1",
        )
    for part, count in parts.items():
        if part != chosen and part in (VALIDATION, TEST):
            source.problems.add("part-trained-on", detail=part, count=count)
    if chosen is not None:
        return np.array([item.part == chosen for item in source.items], bool)
    assert not isinstance(wanted, str)
    return _select_fraction(source.items, wanted, seed)


def _select_fraction(items: Sequence[Item], fraction: float, seed: int) -> np.ndarray:
    """Select a fraction of the images.

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
