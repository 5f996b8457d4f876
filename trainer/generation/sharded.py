"""Generate and measure many images, divided among the ranks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from shards.dataset.label_rows import Labels
from trainer.distributed.process_group import Distributed
from trainer.generation.generate import generate_images
from trainer.noise import normal

CHUNK = 128  # images generated and measured at once by any rank, so that results do not depend on the number of ranks

# Measures images, uint8 (n, C, H, W): arrays with n rows each.
Measure = Callable[[np.ndarray], tuple[np.ndarray, ...]]


def generate_and_measure(
    env: Distributed,
    generator: nn.Module,
    noise_size: int,
    labels: Labels,
    seed: int,
    purpose: str,
    measure: Measure,
    progress: Callable[[int], object] = lambda images: None,
) -> tuple[np.ndarray, ...]:
    """Generate one image per label and return what ``measure`` returns for each; a collective call.

    Args:
        generator: in eval mode, on the rank's device.
        noise_size: length of z; image i has the noise at position i of ``seed`` and ``purpose``.
        labels: n labels, equal on all ranks.
        progress: called with the estimated number of images that all ranks have just finished.

    Returns:
        The arrays of ``measure`` for all images, in the order of the labels; equal on all ranks.
    """
    starts = range(0, len(labels.label), CHUNK)
    local: dict[int, tuple[np.ndarray, ...]] = {}
    for start in starts[env.rank :: env.world_size]:
        part = Labels(labels.label[start : start + CHUNK], labels.known[start : start + CHUNK])
        indices = np.arange(start, start + len(part.label))
        local[start] = measure(generate_at(generator, noise_size, part, seed, purpose, indices))
        progress(len(part.label) * min(env.world_size, len(starts)))
    measured = {start: arrays for of_rank in env.all_gather(local) for start, arrays in of_rank.items()}
    return tuple(np.concatenate(arrays) for arrays in zip(*(measured[start] for start in starts), strict=True))


def generate_at(
    generator: nn.Module, noise_size: int, labels: Labels, seed: int, purpose: str, indices: np.ndarray
) -> np.ndarray:
    """Generate some of the images of `generate_and_measure` again: uint8 (n, C, H, W).

    Args:
        labels: the labels of these images only.
        indices: int64 (n,), their positions among all images.
    """
    device = next(generator.parameters()).device
    z = normal(seed, purpose, torch.from_numpy(np.asarray(indices, np.int64)).to(device), noise_size)
    return generate_images(generator, z, labels)
