"""Counter-based random numbers: pure functions of (seed, purpose, position in the stream).

Position p has the same noise on any rank and after any resume, and no generator's state is saved.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from shards.core import rng


def uniform(seed: int, purpose: str, positions: Tensor, size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return uniform numbers in (0, 1), excluding both ends: one vector per position.

    Args:
        seed: the run's seed.
        purpose: what the numbers are for; other purposes have other numbers.
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
    """Return standard normal noise (Box & Muller 1958): one vector per position.

    Computed in float64 on the positions' device, then rounded; |z| < 6.7.

    Args:
        seed: the run's seed.
        purpose: what the noise is for; other purposes have other noise.
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
    """Return float64 (B, size) in (0, 1), on the device of the positions if it supports float64."""
    if positions.device.type == "mps":  # does not
        positions = positions.cpu()
    channel = torch.arange(size, device=positions.device)
    return (rng.bits(key, positions[:, None], channel).double() + 0.5) / 2**32
