"""Variety: how much generated images of one label differ, relative to real ones.

`samples/spread` compares images of different labels. A generator that draws one image per label has a high spread; its
variety is 0.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import nn

from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_images
from shards.dataset.label_rows import Labels, sample_rows
from trainer.generation.generate import PASS, generate_images
from trainer.noise import normal

_PAIRS, _FEWEST = 64, 8
_COMPARED = 16_384  # images of the dataset, among which pairs are sought


class Variety:
    """Compares pairs of generated images with pairs of real ones that have the same labels.

    Args:
        dataset: provides the pairs; up to 128 of its images are read.
        noise_size: length of z.
        seed: of the choice of the pairs, and of their noise.
        device: of the generator.

    Raises:
        UserError: a remote image cannot be fetched.
    """

    def __init__(self, dataset: Dataset, noise_size: int, seed: int, device: torch.device) -> None:
        rows = pairs_of_one_label(dataset.labels.stored, dataset.known, _candidates(dataset, seed))
        real, intact = read_images(dataset, rows)
        whole = intact.reshape(-1, 2).all(1).repeat(2)
        self.labels = Labels(dataset.labels[rows[whole]], dataset.known[rows[whole]])
        positions = torch.from_numpy(np.flatnonzero(whole)).to(device)
        self.z = normal(seed, "noise of the variety", positions, noise_size)
        self._real = pair_distance(real[whole]) if whole.sum() >= 2 * _FEWEST else 0.0

    def measure(self, generator: nn.Module) -> float:
        """Return the root mean square distance of generated pairs over that of real ones.

        Near 1: as varied as real images. Near 0: one image per label. NaN: fewer than eight pairs of readable images
        have one label, or they do not differ.
        """
        if self._real == 0:
            return math.nan
        return pair_distance(generate_images(generator, self.z, self.labels, PASS)) / self._real


def _candidates(dataset: Dataset, seed: int) -> Iterable[int]:
    """Return the rows to seek pairs in: random ones, or those of the first shard of a remote dataset."""
    count = min(_COMPARED, len(dataset))
    if dataset.remote:
        first = dataset.shard_of(0)
        return itertools.takewhile(lambda row: dataset.shard_of(row) == first, range(count))
    return sample_rows(len(dataset), count, seed, "images of the variety").tolist()


def pairs_of_one_label(labels: np.ndarray, known: np.ndarray, rows: Iterable[int], count: int = _PAIRS) -> np.ndarray:
    """Return pairs of rows with equal labels; a row is in one pair at most.

    Args:
        labels, known: label vectors (N, L) and masks (N, A).
        rows: to choose from, in this order.
        count: of pairs, at most.

    Returns:
        int64 (2 * pairs,): the rows of one pair after those of another.
    """
    waiting: dict[bytes, int] = {}  # row by label, hashed: there may be tens of thousands of entries
    found: list[int] = []
    for row in rows:
        label = hashlib.blake2b(labels[row].tobytes() + known[row].tobytes(), digest_size=16).digest()
        if label not in waiting:
            waiting[label] = row
            continue
        found += [waiting.pop(label), row]
        if len(found) == 2 * count:
            break
    return np.array(found, np.int64)


def pair_distance(images: np.ndarray) -> float:
    """Return √(mean (a - b)²) over the pixels of pairs of neighbours, uint8 (2 n, …), n at least 1."""
    squares = [np.square(a.astype(np.float32) - b).mean() for a, b in zip(images[::2], images[1::2], strict=True)]
    return float(np.sqrt(np.mean(squares)))
