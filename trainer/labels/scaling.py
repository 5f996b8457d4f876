"""Scale continuous label entries to the magnitude of one-hot entries.

A word enters a network as an entry of 1, and layers are initialized for that. A height of 183.5 would drown the noise
beside it in G, and the image in D. The vectors of captions are of unit length, but most of it is common to all captions
of a dataset: what tells "blue hair" from "green hair" is a small part of it. Words and tags are not scaled.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.schema import WORDLESS

_MAX_SAMPLES = 100_000  # evenly spaced ones are measured
_MAX_DEVIATIONS = 4.0  # from the mean: limits the scale of an entry that is rarely nonzero


class LabelScaling(NamedTuple):
    """An entry y of a label enters the networks as (y - centre) · scale; both are float64 (L,)."""

    centre: np.ndarray
    scale: np.ndarray


def measure_scaling(dataset: Dataset) -> LabelScaling:
    """Return the scaling of a dataset's labels.

    Scaled entries of a vector or a caption have mean 0, and the sum of their squares is about 1 per image.
    """
    scaling = LabelScaling(np.zeros(dataset.schema.width), np.ones(dataset.schema.width))
    step = -(-len(dataset) // _MAX_SAMPLES) or 1
    for attribute, entries in _continuous_attributes(dataset):
        values = np.asarray(dataset.labels[::step, entries], np.float64)
        values = values[np.asarray(dataset.known[::step, attribute])]
        if len(values):
            centred = values - values.mean(0)
            deviation = np.maximum(centred.std(0), np.abs(centred).max(0) / _MAX_DEVIATIONS)
            scaling.centre[entries] = values.mean(0)
            scaling.scale[entries] = 1 / np.where(deviation > 0, deviation, 1) / values.shape[1] ** 0.5
    return scaling


def _continuous_attributes(dataset: Dataset) -> Iterator[tuple[int, slice]]:
    """Yield the index and the label entries of each vector and text attribute."""
    for index, attribute in enumerate(dataset.schema.attributes):
        if attribute.kind in WORDLESS:
            start = int(dataset.schema.starts[index])
            yield index, slice(start, start + attribute.size)
