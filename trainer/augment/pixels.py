"""Images as lists of pixels, to gather coordinates and transform colours, and what is blank or opaque in them."""

from __future__ import annotations

import torch
from torch import Tensor

ALPHA = 3  # channels before alpha, in images that have it


def to_pixels(images: Tensor) -> Tensor:
    """Reshape (B, C, H, W) to (B, H·W, C) in row order; a view of channels_last images."""
    return images.permute(0, 2, 3, 1).flatten(1, 2)


def to_images(pixels: Tensor, width: int) -> Tensor:
    """Reshape (B, H·W, C) to (B, C, H, W), a channels_last view."""
    return pixels.unflatten(1, (-1, width)).permute(0, 3, 1, 2)


def pick(images: Tensor, source: Tensor) -> Tensor:
    """Return images whose pixel (i, j) is the input's pixel number source[b, i, j], counted in row order.

    Args:
        images: (B, C, H, W).
        source: int64 (B, H, W), values in [0, H·W).
    """
    index = source.flatten(1)[:, :, None].expand(-1, -1, images.shape[1])
    return to_images(to_pixels(images).gather(1, index), images.shape[-1])


def erase(images: Tensor, where: Tensor) -> Tensor:
    """Return images that are blank at some pixels: mid-grey, and transparent if they have alpha.

    Args:
        images: (B, C, H, W) in about [-1, 1].
        where: bool (B, H, W).
    """
    erased = images.masked_fill(where[:, None], 0)
    if images.shape[1] <= ALPHA:
        return erased
    colors, alpha = erased[:, :ALPHA], erased[:, ALPHA:]
    return torch.cat([colors, alpha.masked_fill(where[:, None], -1)], 1)


def opacity(images: Tensor) -> Tensor | float:
    """Return the opacity of each pixel, (B, 1, H, W) in [0, 1]; 1 for images without alpha."""
    if images.shape[1] <= ALPHA:
        return 1.0
    return ((images[:, ALPHA:] + 1) / 2).clamp(0, 1)


def weigh_by_alpha(images: Tensor) -> Tensor:
    """Multiply colours, whose 0 is mid-grey, by the opacity of their pixel; without alpha, return ``images``.

    Straight alpha says nothing about the colour of a transparent pixel. D must not see what nobody does, and an
    interpolation between pixels must not mix it in.

    Args:
        images: (B, C, H, W) in about [-1, 1], with straight alpha if C is 4.
    """
    if images.shape[1] <= ALPHA:
        return images
    return torch.cat([images[:, :ALPHA] * opacity(images), images[:, ALPHA:]], 1)


def lines(images: Tensor) -> tuple[Tensor, Tensor]:
    """Return the row and column of each pixel, int64 (1, H, 1) and (1, 1, W)."""
    rows, columns = (torch.arange(side, device=images.device) for side in images.shape[2:])
    return rows[None, :, None], columns[None, None, :]


def each(values: Tensor) -> Tensor:
    """Reshape one value per image, (B,), to (B, 1, 1)."""
    return values[:, None, None]
