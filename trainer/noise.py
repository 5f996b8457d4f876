"""Numbers that belong to a picture of the stream, not to a process: drawn from (seed, purpose, position).

Whoever carries position p, and whenever, draws the same z for it; no generator's state is saved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shards.core import rng


def uniform(seed: int, purpose: str, positions: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Numbers evenly spread over (0, 1), both ends left out, one vector a position.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for; other purposes draw differently.
        positions: int64 (B,), global positions in the stream.
        size: length of each vector.
        dtype: bfloat16 or wider.

    Returns:
        (B, size) of ``dtype``.
    """
    below_one = 1 - torch.finfo(dtype).eps / 2  # rounding must not carry a number to 1
    numbers = _uniform(rng.key(seed, purpose), positions, size)
    return numbers.to(dtype).clamp(max=below_one).to(positions.device)


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
    numbers = _uniform(rng.key(seed, purpose), positions, 2 * pairs)
    radius = torch.sqrt(-2 * torch.log(numbers[:, :pairs]))  # inside (0, 1): the logarithm stays finite
    angle = 2 * math.pi * numbers[:, pairs:]
    both = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], 1)
    return both[:, :size].to(dtype).to(positions.device)


def _uniform(key: int, positions: Tensor, size: int) -> Tensor:
    """float64 (B, size) in (0, 1), on the positions' device if it has float64."""
    if positions.device.type == "mps":  # has none
        positions = positions.cpu()
    channel = torch.arange(size, device=positions.device)
    return (rng.bits(key, positions[:, None], channel).double() + 0.5) / 2**32
