"""Colour changes of an image by one matrix (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.pixels import ALPHA, opacity, to_images, to_pixels


def color_matrix(brightness: Tensor, contrast: Tensor, luma: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Return brightness, contrast, luma flip, hue and saturation, in this order, as one affine map of colours.

    All five act separately on the grey axis v = (1, 1, 1)/√3 and on the plane orthogonal to it. With P = v vᵀ, K = [v]ₓ
    (Rodrigues' rotation about v), contrast c, luma ±1, hue θ and saturation s have the product

        M = c·luma·P + c·s·(cos θ·(I - P) + sin θ·K),

    and brightness, which lies on the grey axis, becomes c·luma·b. M is exactly I for (0, 1, 1, 0, 1).

    Args:
        brightness: (B,), added to every channel.
        contrast: (B,), factor.
        luma: (B,), -1 inverts lightness and keeps the hue, 1 changes nothing.
        hue: (B,), radians.
        saturation: (B,), factor.

    Returns:
        (B, 3, 4): linear part and offset.
    """
    # I, K and v vᵀ are circulant, and so is M: three numbers make its rows, each the row above moved to the right.
    both, cosine = contrast * saturation, hue.cos()
    grey = contrast * (luma - saturation * cosine) * (1 / 3)
    turn = both * (hue.sin() * 3**-0.5)  # K is 1/√3 times (0, -1, 1), moved likewise
    same, minus, plus = both * cosine + grey, grey - turn, grey + turn
    offset = contrast * luma * brightness
    rows = [same, minus, plus, offset, plus, same, minus, offset, minus, plus, same, offset]
    return torch.stack(rows, 1).unflatten(1, (3, 4))


def recolor(images: Tensor, matrix: Tensor) -> Tensor:
    """Map every colour x to M x + offset. An image whose matrix is the identity stays the same, bit for bit.

    The offset is weighted by alpha, as the colours are, and alpha stays. Grey is mapped as its equal in RGB, which M
    leaves grey.

    Args:
        images: (B, C, H, W); with alpha, see `weigh_by_alpha`.
        matrix: (B, 3, 4), from `color_matrix`.
    """
    linear, offset = matrix[:, :, :3], matrix[:, :, 3]
    if images.shape[1] == 1:
        mapped = linear[:, 0].sum(1)[:, None, None, None] * images + offset[:, 0, None, None, None]
    else:
        colors, offset = to_images(to_pixels(images[:, :ALPHA]) @ linear.mT, images.shape[-1]), offset[:, :, None, None]
        if images.shape[1] == ALPHA:
            mapped = colors + offset
        else:
            mapped = torch.cat([colors + offset * opacity(images), images[:, ALPHA:]], 1)
    fired = (matrix != torch.eye(3, 4, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
    return torch.where(fired[:, None, None, None], mapped, images)
