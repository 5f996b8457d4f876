"""Variety: how much generated images of one label differ, relative to real ones.

`samples/spread` compares images of different labels. A generator that draws one image per label has a high spread; its
variety is 0.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_images
from shards.dataset.label_rows import Labels, sample_rows
from trainer.generation.generate import generate_images
from trainer.noise import normal

_PAIRS = 64
_COMPARED = 2048  # images of the dataset, among which the partners are sought


class Variety:
    """Compares pairs of generated images with pairs of real ones that have the same labels, or nearly so.

    Args:
        dataset: provides the pairs; 128 of its images are read.
        noise_size: length of z.
        seed: of the choice of the pairs, and of their noise.
        device: of the generator.
    """

    def __init__(self, dataset: Dataset, noise_size: int, seed: int, device: torch.device) -> None:
        count = min(_COMPARED, len(dataset))
        # The first of a remote dataset, whose other shards are not fetched for this.
        rows = np.arange(count) if dataset.remote else sample_rows(len(dataset), count, seed, "images of the variety")
        rows = rows[nearest_pairs(dataset.labels[rows], dataset.known[rows], _PAIRS)]
        real, intact = read_images(dataset, rows)
        whole = intact.reshape(-1, 2).all(1).repeat(2)
        self.labels = Labels(dataset.labels[rows[whole]], dataset.known[rows[whole]])
        positions = torch.from_numpy(np.flatnonzero(whole)).to(device)
        self.z = normal(seed, "noise of the variety", positions, noise_size)
        self._real = pair_distance(real[whole])

    def measure(self, generator: nn.Module) -> float:
        """Return the root mean square distance of generated pairs over that of real ones; NaN if these do not differ,
        or cannot be read.

        Near 1: as varied as real images. Near 0: one image per label.
        """
        if self._real == 0:
            return math.nan
        return pair_distance(generate_images(generator, self.z, self.labels)) / self._real


def nearest_pairs(labels: np.ndarray, known: np.ndarray, count: int) -> np.ndarray:
    """Return pairs of rows with the same label, or where there is none with the most similar one.

    Args:
        labels, known: label vectors (N, L) and masks (N, A), N at least 2.
        count: of pairs.

    Returns:
        int64 (2 * pairs,): each row of the first ``count``, followed by its partner.
    """
    said = np.concatenate([labels, known], 1).astype(np.float32)
    squares = np.square(said).sum(1)
    distances = squares[:count, None] + squares - 2 * said[:count] @ said.T
    first = np.arange(len(distances))
    distances[first, first] = math.inf
    return np.stack([first, distances.argmin(1)], 1).reshape(-1)


def pair_distance(images: np.ndarray) -> float:
    """Return √(mean (a - b)²) over the pixels of pairs of neighbours, uint8 (2 n, …)."""
    pixels = images.astype(np.float32)
    if not len(pixels):
        return 0.0
    return float(np.sqrt(np.square(pixels[::2] - pixels[1::2]).mean()))
