"""Noise that belongs to a picture of the stream, not to a process: drawn from (seed, purpose, position).

Whoever carries position p, and whenever, draws the same z for it; no generator's state is saved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shards import keyed


def normal(seed: int, purpose: str, positions: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Standard normal noise, one vector a position (Box & Muller 1958).

    Computed in float64 on the positions' device, then rounded; |z| < 6.7.

    Args:
        seed: the run's seed.
        purpose: what the noise is for; the discriminator's and generator's steps draw differently.
        positions: int64 (B,), global positions in the stream.
        size: length of each vector.

    Returns:
        (B, size) of ``dtype``.
    """
    pairs = -(-size // 2)
    device = positions.device
    if device.type == "mps":  # has no float64
        positions = positions.cpu()
    channel = torch.arange(2 * pairs, device=positions.device)
    word = keyed.bits(keyed.key(seed, purpose), positions[:, None], channel)
    uniform = (word.double() + 0.5) / 2**32  # inside (0, 1): the logarithm stays finite
    radius = torch.sqrt(-2 * torch.log(uniform[:, :pairs]))
    angle = 2 * math.pi * uniform[:, pairs:]
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return both[:, :size].to(dtype).to(device)
