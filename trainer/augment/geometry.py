"""Geometric changes: exact pixel moves, and one affine warp (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.pixels import each, pick


def blit(images: Tensor, mirrored: Tensor, turns: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Mirror, then rotate by quarter turns, then shift; pixels are copied exactly and edges are reflected.

    Args:
        images: (B, C, H, W).
        mirrored: bool (B,), flip horizontally.
        turns: int64 (B,), quarter turns counterclockwise, 0 … 3; of images that are not square, 0 or 2.
        right, down: int64 (B,), pixels, at most W and H in size.
    """
    height, width = images.shape[2:]
    line = torch.arange(max(height, width), device=images.device)
    last: Tensor | int = height - 1  # of the rows; for images that are not square, of rows and columns
    if height != width:
        last = height - 1 + (width - height) * torch.arange(2, device=images.device)[:, None]
    # The lines of the two axes, rows and columns: (B, 2, S), S the longer side. The pixel at (i, j) comes from
    # lines[:, 0, i] and lines[:, 1, j], which are a row and a column, or after an odd number of turns a column and a
    # row.
    lines = _reflected(line - torch.stack([down, right], 1)[:, :, None], last)
    odd, upside_down = (turns & 1).bool(), turns >= 2
    backwards = torch.stack([odd > mirrored, mirrored > odd], 1) ^ upside_down[:, None]
    lines = torch.where(backwards[:, :, None], last - lines, lines)
    step = width - (width - 1) * odd.long()
    index = lines * torch.stack([step, width + 1 - step], 1)[:, :, None]
    return pick(images, index[:, 0, :height, None] + index[:, 1, None, :width])


def _reflected(line: Tensor, last: Tensor | int) -> Tensor:
    """Reflect coordinates outside [0, last] at the edges."""
    return torch.minimum(torch.maximum(line, -1 - line), 2 * last + 1 - line)


def source_matrix(
    zoom: Tensor,
    before: Tensor,
    stretch: Tensor,
    after: Tensor,
    right: Tensor,
    down: Tensor,
    *,
    sides: tuple[int, int] = (1, 1),
) -> Tensor:
    """Return the inverse of zooming, rotating, stretching, rotating again and shifting.

    The transform is G = T·R(after)·diag(stretch, 1/stretch)·R(before)·zoom; a warp needs its inverse, which is composed
    from the inverses of the factors. It is exactly the identity for (1, 0, 1, 0, 0, 0).

    Args:
        zoom: (B,), factor.
        before, after: (B,), radians; positive is clockwise, since y points down.
        stretch: (B,), factor along x.
        right, down: (B,), in units of the sides.
        sides: height and width of the images, or their ratio: angles are those of an image, not of [-1, 1]².

    Returns:
        (B, 2, 3), affine, from coordinates (x, y) in [-1, 1]² of the result to those of the original.
    """
    first, last = _rotations(-torch.stack([before, after], 1)).unbind(1)
    narrower = torch.stack([1 / stretch, stretch], 1)[:, :, None]
    linear = first @ (narrower * last) / each(zoom)
    if sides[0] != sides[1]:
        ratio = sides[0] / sides[1]
        x, y = linear.unbind(1)  # scaled one by one: a matrix made on the host would be a blocking copy
        linear = torch.stack([x[:, 0], x[:, 1] * ratio, y[:, 0] / ratio, y[:, 1]], 1).unflatten(1, (2, 2))
    shift = -2 * torch.stack([right, down], 1)[:, :, None]  # the side is 2 in these coordinates
    return torch.cat([linear, linear @ shift], 2)


def _rotations(angles: Tensor) -> Tensor:
    """Return rotation matrices: (B, A) -> (B, A, 2, 2)."""
    cosine, sine = angles.cos(), angles.sin()
    return torch.stack([cosine, -sine, sine, cosine], 2).unflatten(2, (2, 2))


def warp(images: Tensor, matrix: Tensor) -> Tensor:
    """Warp by bilinear sampling, with reflection at the edges.

    An image whose matrix is the identity stays the same, bit for bit. The paper applies wavelet filters around the
    warp; this does not. torch has no second derivative of it, so no gradient penalty can be taken through a warp.

    Args:
        images: (B, C, H, W).
        matrix: (B, 2, 3), from `source_matrix`.
    """
    grid = F.affine_grid(matrix, list(images.shape), align_corners=False)
    warped = F.grid_sample(images, grid, "bilinear", "reflection", align_corners=False)
    fired = (matrix != torch.eye(2, 3, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
    return torch.where(fired[:, None, None, None], warped, images)
