"""Moves of a whole picture: exact ones from pixel to pixel, and one affine warp (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from trainer.augment.pixels import each, lines, pick


def blit(pictures: Tensor, mirrored: Tensor, turns: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Mirror, then turn, then shift; every pixel is an exact copy of one, and the edges are reflected.

    Args:
        pictures: (B, 3, S, S).
        mirrored: bool (B,), left and right exchanged.
        turns: int64 (B,), quarter turns counterclockwise, 0 … 3.
        right, down: int64 (B,), pixels, at most S in size.
    """
    i, j = lines(pictures)
    last = pictures.shape[-1] - 1
    i, j = _reflected(i - each(down), last), _reflected(j - each(right), last)
    odd, upside_down = each(turns % 2 == 1), each(turns >= 2)
    backwards = each((turns == 1) | (turns == 2)) ^ each(mirrored)
    rows, columns = torch.where(odd, j, i), torch.where(odd, i, j)
    rows = torch.where(upside_down, last - rows, rows)
    columns = torch.where(backwards, last - columns, columns)
    return pick(pictures, rows, columns)


def _reflected(line: Tensor, last: int) -> Tensor:
    """Places outside of [0, last] as in a mirror along the edge."""
    line = torch.where(line < 0, -1 - line, line)
    return torch.where(line > last, 2 * last + 1 - line, line)


def source_matrix(zoom: Tensor, before: Tensor, stretch: Tensor, after: Tensor, right: Tensor, down: Tensor) -> Tensor:
    """Where the pixels of a picture come from that was zoomed, turned, stretched, turned again and moved.

    The move is G = T·R(after)·diag(stretch, 1/stretch)·R(before)·zoom; what a warp needs is its inverse, composed
    here from the inverses of its parts. It is exactly the identity for (1, 0, 1, 0, 0, 0).

    Args:
        zoom: (B,), factor.
        before, after: (B,), radians; positive is clockwise as seen, since y points down.
        stretch: (B,), factor along x.
        right, down: (B,), in picture sides.

    Returns:
        (B, 2, 3), affine, from places (x, y) in [-1, 1]² of the result to places of the original.
    """
    narrower = torch.stack([1 / stretch, stretch], 1)[:, :, None]
    linear = _rotation(-before) @ (narrower * _rotation(-after)) / each(zoom)
    shift = 2 * torch.stack([right, down], 1)[:, :, None]  # a side is 2 long
    return torch.cat([linear, -linear @ shift], 2)


def _rotation(angle: Tensor) -> Tensor:
    """(B,) -> (B, 2, 2)."""
    cosine, sine = angle.cos(), angle.sin()
    return torch.stack([cosine, -sine, sine, cosine], 1).unflatten(1, (2, 2))


def warp(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Bilinear samples at the places that ``matrix`` says, the picture reflected beyond its edges.

    A picture whose matrix is the identity stays as it is, bit for bit. The paper filters by wavelets around the warp;
    this does not. torch has no second derivative of it: no gradient penalty can be taken through a warp.

    Args:
        pictures: (B, 3, S, S).
        matrix: (B, 2, 3), of `source_matrix`.
    """
    grid = F.affine_grid(matrix, list(pictures.shape), align_corners=False)
    warped = F.grid_sample(pictures, grid, "bilinear", "reflection", align_corners=False)
    fired = (matrix != torch.eye(2, 3, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
    return torch.where(fired[:, None, None, None], warped, pictures)
