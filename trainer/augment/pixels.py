"""Images as lists of pixels, to gather coordinates and transform colours."""

from __future__ import annotations

import torch
from torch import Tensor


def to_pixels(images: Tensor) -> Tensor:
    """Reshape (B, 3, S, S) to (B, S·S, 3) in row order; a view of channels_last images."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def to_images(pixels: Tensor, side: int) -> Tensor:
    """Reshape (B, S·S, 3) to (B, 3, S, S), a channels_last view."""
    return pixels.unflatten(1, (side, side)).permute(0, 3, 1, 2)


def pick(images: Tensor, source: Tensor) -> Tensor:
    """Return images whose pixel (i, j) is the input's pixel number source[b, i, j], counted in row order.

    Args:
        images: (B, 3, S, S).
        source: int64 (B, S, S), values in [0, S·S).
    """
    index = source.flatten(1)[:, :, None].expand(-1, -1, 3)
    return to_images(to_pixels(images).gather(1, index), images.shape[-1])


def lines(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and column of each pixel, int64 (1, S, 1) and (1, 1, S)."""
    line = torch.arange(images.shape[-1], device=images.device)
    return line[None, :, None], line[None, None, :]


def each(values: Tensor) -> Tensor:
    """Reshape one value per image, (B,), to (B, 1, 1)."""
    return values[:, None, None]
