"""Draw rows of labels from a dataset."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shards.core import rng
from shards.core.permutation import permute


class Labels(NamedTuple):
    """n label vectors with their masks."""

    label: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)


def sample_rows(total: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """Return ``count`` of ``total`` rows, int64 (count,), keyed; a row repeats only after all others."""
    epoch, index = np.divmod(np.arange(count, dtype=np.int64), total)
    return permute(rng.bits(rng.key(seed, purpose), epoch), total, index)


def sample_labels(labels: np.ndarray, known: np.ndarray, count: int, seed: int, purpose: str) -> Labels:
    """Return the labels of the rows that `sample_rows` draws."""
    rows = sample_rows(len(labels), count, seed, purpose)
    return Labels(np.asarray(labels[rows], np.float32), np.asarray(known[rows], bool))
