"""The label vectors of a dataset, and drawing rows of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from shards.core import rng
from shards.core.permutation import permute


class LabelArray:
    """The label vectors of a dataset, read as float32 whatever they are stored as.

    Vectors of zeros and ones are stored as bytes, which takes a quarter of the memory and disk.

    Args:
        stored: uint8 or float32 (N, L), usually memory-mapped.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, stored: np.ndarray) -> None:
        self.stored = stored
        self.shape: tuple[int, ...] = stored.shape

    def __len__(self) -> int:
        return len(self.stored)

    def __getitem__(self, index: Any) -> np.ndarray:
        """Return rows, or a part of them, as a float32 array."""
        return np.asarray(self.stored[index], np.float32)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all vectors, float32 unless ``dtype`` is given."""
        return np.array(self.stored, dtype or np.float32)


class Labels(NamedTuple):
    """n label vectors with their masks."""

    label: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)


def sample_rows(total: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """Return ``count`` of ``total`` rows, int64 (count,), keyed; a row repeats only after all others."""
    epoch, index = np.divmod(np.arange(count, dtype=np.int64), total)
    return permute(rng.bits(rng.key(seed, purpose), epoch), total, index)


def sample_labels(labels: np.ndarray | LabelArray, known: np.ndarray, count: int, seed: int, purpose: str) -> Labels:
    """Return the labels of the rows that `sample_rows` draws."""
    rows = sample_rows(len(labels), count, seed, purpose)
    return Labels(np.asarray(labels[rows], np.float32), np.asarray(known[rows], bool))
