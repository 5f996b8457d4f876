"""How measured numbers of a label are brought to the loudness of a word.

A word enters a network as an entry of 1, and what is initialised for that drowns in a height of 183.5: the noise would
not be heard beside it, nor the picture in D. Words, tags and sentences (of unit length) stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shards.dataset.dataset import Dataset

_ROWS = 100_000  # are looked at, evenly spread
_FARTHEST = 4.0  # deviations: a rare entry of 1 among zeros would be louder the rarer it is


class Loudness(NamedTuple):
    """An entry y of a label enters as (y - centre) · scale; both float64 (L,)."""

    centre: np.ndarray
    scale: np.ndarray


def loudness(dataset: Dataset) -> Loudness:
    """That of a data set: entries of a vector have mean 0, and their squares add up to about 1 in a picture."""
    found = Loudness(np.zeros(dataset.schema.width), np.ones(dataset.schema.width))
    step = -(-len(dataset) // _ROWS) or 1
    for number, entries in _vectors(dataset):
        rows = np.asarray(dataset.labels[::step, entries], np.float64)[np.asarray(dataset.known[::step, number])]
        if len(rows):
            centred = rows - rows.mean(0)
            spread = np.maximum(centred.std(0), np.abs(centred).max(0) / _FARTHEST)
            found.centre[entries] = rows.mean(0)
            found.scale[entries] = 1 / np.where(spread > 0, spread, 1) / rows.shape[1] ** 0.5
    return found


def _vectors(dataset: Dataset) -> Iterator[tuple[int, slice]]:
    """Number and entries of each attribute that is a vector."""
    for number, attribute in enumerate(dataset.schema.attributes):
        if attribute.kind == "vector":
            start = int(dataset.schema.starts[number])
            yield number, slice(start, start + attribute.size)
