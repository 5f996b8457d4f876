"""Label rows of a dataset, drawn at random."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from shards.core import rng
from shards.core.permutation import permute


class Labels(NamedTuple):
    """Rows of label vectors with their masks."""

    label: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)


def sample_rows(total: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """int64 (count,): rows of ``total``, drawn by key, each at most once in every ``total``."""
    epoch, index = np.divmod(np.arange(count, dtype=np.int64), total)
    return permute(rng.bits(rng.key(seed, purpose), epoch), total, index)


def sample_labels(labels: np.ndarray, known: np.ndarray, count: int, seed: int, purpose: str) -> Labels:
    """Labels as the data has them: those of `sample_rows`."""
    rows = sample_rows(len(labels), count, seed, purpose)
    return Labels(np.asarray(labels[rows], np.float32), np.asarray(known[rows], bool))
