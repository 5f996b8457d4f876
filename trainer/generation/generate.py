"""Generate images from labels and noise."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shards.core import rng
from shards.stream.order import permute

_CHUNK = 128  # images per forward pass


class Labels(NamedTuple):
    """Rows of label vectors with their masks."""

    label: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)


@torch.no_grad()
def generate_images(generator: nn.Module, z: Tensor, labels: Labels) -> np.ndarray:
    """Generate one image per label.

    Args:
        generator: in eval mode.
        z: noise (n, noise_size), on the generator's device.
        labels: n label vectors with their masks.

    Returns:
        uint8 (n, 3, S, S).
    """
    device, dtype = z.device, next(generator.parameters()).dtype
    label = torch.from_numpy(np.ascontiguousarray(labels.label, np.float32)).to(device, dtype)
    known = torch.from_numpy(np.ascontiguousarray(labels.known, np.float32)).to(device, dtype)
    chunks = []
    for rows in torch.arange(len(z), device=device).split(_CHUNK):
        x = generator(z[rows].to(dtype), label[rows], known[rows])
        chunks.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    return torch.cat(chunks).contiguous().numpy()


def sample_rows(total: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """int64 (count,): rows of ``total``, drawn by key, each at most once in every ``total``."""
    epoch, index = np.divmod(np.arange(count, dtype=np.int64), total)
    return permute(rng.bits(rng.key(seed, purpose), epoch), total, index)


def sample_labels(labels: np.ndarray, known: np.ndarray, count: int, seed: int, purpose: str) -> Labels:
    """Labels as the data has them: those of `sample_rows`."""
    rows = sample_rows(len(labels), count, seed, purpose)
    return Labels(np.asarray(labels[rows], np.float32), np.asarray(known[rows], bool))
