"""A dataset's images in memory, in an order that resumes at any image."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from shards.core import rng
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels


def require_a_batch(samples: int, batch: int, where: str) -> None:
    """Raise UserError if a dataset has fewer images than a batch."""
    if samples < batch:
        raise UserError("wrong-dataset", f"{where}: its {samples} images are fewer than a batch of {batch}")


def batches(samples: int, batch: int, seen: int, seed: int) -> Iterator[Tensor]:
    """Yield sample numbers (batch,), each epoch shuffled with its own key, starting at image ``seen``."""
    a_epoch = samples // batch
    number = seen // batch
    while True:
        epoch, first = divmod(number, a_epoch)
        order = torch.from_numpy(np.random.default_rng(rng.key(seed, f"order of epoch {epoch}")).permutation(samples))
        for place in range(first, a_epoch):
            yield order[place * batch : (place + 1) * batch]
            number += 1


def images_of(dataset: Dataset) -> Tensor:
    """Return all images: uint8 (N, 3, S, S)."""
    images = np.empty((len(dataset), dataset.size, dataset.size, 3), np.uint8)
    for sample, out in enumerate(images):
        read_pixels(dataset, sample, out)
    return torch.from_numpy(images).permute(0, 3, 1, 2)
