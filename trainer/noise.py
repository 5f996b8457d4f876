"""Counter-based random numbers: pure functions of (seed, purpose, position in the stream).

Position p has the same noise on any rank and after any resume, and no generator's state is saved.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

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
    return draw(seed, positions, dtype, uniform={purpose: size})[purpose]


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
    return draw(seed, positions, dtype, normal={purpose: size})[purpose]


def draw(
    seed: int,
    positions: Tensor,
    dtype: torch.dtype = torch.float32,
    *,
    uniform: Mapping[str, int] | None = None,
    normal: Mapping[str, int] | None = None,
) -> dict[str, Tensor]:
    """Return the numbers of several purposes, each the same as alone.

    All are hashed at once: a hash is fifty operations on little data, of which a GPU feels only the number.

    Args:
        seed: the run's seed.
        positions: int64 (B,), global positions in the stream.
        dtype: bfloat16 or wider.
        uniform: length of the vectors, by purpose.
        normal: the same for standard normal numbers.

    Returns:
        (B, size) of ``dtype``, by purpose.
    """
    uniform, normal = dict(uniform or {}), dict(normal or {})
    pairs = {purpose: -(-size // 2) for purpose, size in normal.items()}
    half = sum(pairs.values())
    # The radii of all normal pairs, then all angles, which are later draws of their purpose, then the uniform numbers.
    columns = [(purpose, 0, count) for purpose, count in pairs.items()]
    columns += [(purpose, count, count) for purpose, count in pairs.items()]
    columns += [(purpose, 0, size) for purpose, size in uniform.items()]
    radius, angle, even = _hash(seed, positions, columns).split([half, half, sum(uniform.values())], 1)

    found: dict[str, Tensor] = {}
    if normal:
        radius = torch.sqrt(-2 * torch.log(radius))  # inside (0, 1): the logarithm stays finite
        angle = 2 * math.pi * angle
        both = torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 1).to(dtype).to(positions.device)
        parts = both.split(list(pairs.values()), 2)
        found |= {purpose: part.flatten(1)[:, : normal[purpose]] for purpose, part in zip(normal, parts, strict=True)}
    if uniform:
        below_one = 1 - torch.finfo(dtype).eps / 2  # rounding must not carry a number to 1
        even = even.to(dtype).clamp(max=below_one).to(positions.device)
        found |= zip(uniform, even.split(list(uniform.values()), 1), strict=True)
    return found


def _hash(seed: int, positions: Tensor, columns: list[tuple[str, int, int]]) -> Tensor:
    """Return uniform numbers in (0, 1), on the device of the positions if it supports float64.

    Args:
        columns: (purpose, first draw, number of draws), next to each other.

    Returns:
        float64 (B, C).
    """
    if positions.device.type == "mps":  # does not
        positions = positions.cpu()
    device = positions.device
    line = torch.arange(max(first + count for _, first, count in columns), device=device)
    # Keys are filled in on the device, since copying them there would make the CPU wait for it.
    keys = {purpose: torch.full((), rng.key(seed, purpose), device=device) for purpose, _, _ in columns}
    key = torch.cat([keys[purpose].expand(count) for purpose, _, count in columns])
    channel = torch.cat([line[first : first + count] for _, first, count in columns])
    return (rng.bits(key, positions[:, None], channel).double() + 0.5) / 2**32
