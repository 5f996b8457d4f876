"""Geometric changes: exact pixel moves, and one affine warp (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.pixels import each, lines, pick


def blit(images: Tensor, mirrored: Tensor, turns: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Mirror, then rotate by quarter turns, then shift; pixels are copied exactly and edges are reflected.

    Args:
        images: (B, 3, S, S).
        mirrored: bool (B,), flip horizontally.
        turns: int64 (B,), quarter turns counterclockwise, 0 … 3.
        right, down: int64 (B,), pixels, at most S in size.
    """
    i, j = lines(images)
    last = images.shape[-1] - 1
    i, j = _reflected(i - each(down), last), _reflected(j - each(right), last)
    odd, upside_down = each(turns % 2 == 1), each(turns >= 2)
    backwards = each((turns == 1) | (turns == 2)) ^ each(mirrored)
    rows, columns = torch.where(odd, j, i), torch.where(odd, i, j)
    rows = torch.where(upside_down, last - rows, rows)
    columns = torch.where(backwards, last - columns, columns)
    return pick(images, rows, columns)


def _reflected(line: Tensor, last: int) -> Tensor:
    """Reflect coordinates outside [0, last] at the edges."""
    line = torch.where(line < 0, -1 - line, line)
    return torch.where(line > last, 2 * last + 1 - line, line)


def source_matrix(zoom: Tensor, before: Tensor, stretch: Tensor, after: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Return the inverse of zooming, rotating, stretching, rotating again and shifting.

    The transform is G = T·R(after)·diag(stretch, 1/stretch)·R(before)·zoom; a warp needs its inverse, which is composed
    from the inverses of the factors. It is exactly the identity for (1, 0, 1, 0, 0, 0).

    Args:
        zoom: (B,), factor.
        before, after: (B,), radians; positive is clockwise, since y points down.
        stretch: (B,), factor along x.
        right, down: (B,), in units of the side.

    Returns:
        (B, 2, 3), affine, from coordinates (x, y) in [-1, 1]² of the result to those of the original.
    """
    narrower = torch.stack([1 / stretch, stretch], 1)[:, :, None]
    linear = _rotation(-before) @ (narrower * _rotation(-after)) / each(zoom)
    shift = 2 * torch.stack([right, down], 1)[:, :, None]  # the side is 2 in these coordinates
    return torch.cat([linear, -linear @ shift], 2)


def _rotation(angle: Tensor) -> Tensor:
    """Return rotation matrices: (B,) -> (B, 2, 2)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], 1).unflatten(1, (2, 2))


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Warp by bilinear sampling, with reflection at the edges.

    An image whose matrix is the identity stays the same, bit for bit. The paper applies wavelet filters around the
    warp; this does not. torch has no second derivative of it, so no gradient penalty can be taken through a warp.

    Args:
        images: (B, 3, S, S).
        matrix: (B, 2, 3), from `source_matrix`.
    """
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    warped = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    fired = (matrix != torch.eye(2, 3, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
    return torch.where(fired[:, None, None, None], warped, images)
