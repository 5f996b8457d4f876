"""Pictures as lists of pixels, in which places are gathered and colours multiplied."""

from __future__ import annotations

import torch
from torch import Tensor


def to_pixels(pictures: Tensor) -> Tensor:
    """(B, 3, S, S) -> (B, S·S, 3), rows first; a view of channels_last pictures."""
    return pictures.permute(0, 2, 3, 1).flatten(1, 2)


def to_pictures(pixels: Tensor, side: int) -> Tensor:
    """(B, S·S, 3) -> (B, 3, S, S), a channels_last view."""
    return pixels.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def pick(pictures: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The pictures whose pixel (i, j) is the given ones' at (rows[b, i, j], columns[b, i, j]), exactly.

    Args:
        pictures: (B, 3, S, S).
        rows, columns: int64, broadcast to (B, S, S), values in [0, S).
    """
    side = pictures.shape[-1]
    place = (rows * side + columns).expand(len(pictures), side, side).flatten(1)
    return to_pictures(to_pixels(pictures).gather(1, place[:, :, None].expand(-1, -1, 3)), side)


def lines(pictures: Tensor) -> tuple[Tensor, Tensor]:
    """Each pixel's own row and column, int64 (1, S, 1) and (1, 1, S)."""
    line = torch.arange(pictures.shape[-1], device=pictures.device)
    return line[None, :, None], line[None, None, :]


def each(values: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1): a value a picture, beside its rows and columns."""
    return values[:, None, None]
