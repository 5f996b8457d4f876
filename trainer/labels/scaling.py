"""Scale continuous label entries to the magnitude of one-hot entries.

A word enters a network as an entry of 1, and layers are initialized for that. A height of 183.5 would drown the noise
beside it in G, and the image in D. The vectors of captions are of unit length, but most of it is common to all captions
of a dataset: what tells "blue hair" from "green hair" is a small part of it, and what is common is taken off. Words and
tags are not scaled.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shards.dataset.dataset import Dataset
from shards.dataset.schema import WORDLESS

_MAX_NUMBERS = 4_000_000  # of an attribute; more images than have them are left out, evenly
_MAX_DEVIATIONS = 4.0  # from the mean: limits the scale of an entry that is rarely nonzero
_LEAST = 1e-30  # deviations below it are none: their inverse would overflow


class LabelScaling(NamedTuple):
    """An entry y of a label enters the networks as (y - centre) · scale; both are float64 (L,)."""

    centre: np.ndarray
    scale: np.ndarray


def measure_scaling(dataset: Dataset) -> LabelScaling:
    """Return the scaling of a dataset's labels.

    Scaled entries of a vector or a caption have mean 0, and the sum of their squares is about 1 per image. Few images
    with captions, or captions that are nearly all the same, are scaled less, for the sake of other captions.
    """
    scaling = LabelScaling(np.zeros(dataset.schema.width), np.ones(dataset.schema.width))
    for index, attribute in enumerate(dataset.schema.attributes):
        if attribute.kind not in WORDLESS:
            continue
        start = int(dataset.schema.starts[index])
        entries = slice(start, start + attribute.size)
        rows = np.flatnonzero(dataset.known[:, index])
        rows = rows[:: -(-len(rows) * attribute.size // _MAX_NUMBERS) or 1]
        if len(rows):
            values = np.asarray(dataset.labels[rows, entries], np.float64)
            scaling.centre[entries] = values.mean(0)
            scaling.scale[entries] = (scale_of_text if attribute.kind == "text" else scales_of_vector)(values)
    return scaling


def scales_of_vector(values: np.ndarray) -> np.ndarray:
    """Return the factors of numbers (n, size), which may have different units: each entry gets the same deviation."""
    centred = np.abs(values - values.mean(0))
    deviation = np.maximum(values.std(0), centred.max(0) / _MAX_DEVIATIONS)
    varies = deviation > np.maximum(np.finfo(np.float32).eps * np.abs(values).max(0), _LEAST)
    return 1 / np.where(varies, deviation, 1) / values.shape[1] ** 0.5


def scale_of_text(values: np.ndarray) -> float:
    """Return the factor of captions (n, size): a common one keeps the angles between them."""
    lengths = np.linalg.norm(values - values.mean(0), axis=1)
    length = max(np.square(lengths).mean() ** 0.5, lengths.max() / _MAX_DEVIATIONS)
    return 1 / length if length > np.finfo(np.float32).eps else 1.0
