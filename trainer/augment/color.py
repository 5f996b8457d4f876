"""Colours of a picture, turned and stretched about the grey axis by one matrix (Karras et al. 2020, appendix B)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.pixels import each, to_pictures, to_pixels


def color_matrix(brightness: Tensor, contrast: Tensor, luma: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """Brightness, contrast, luma flip, hue and saturation, in this order, as one affine map of colours.

    All five act on the grey axis v = (1, 1, 1)/√3 and on the plane across it separately. With P = v vᵀ and K = [v]ₓ
    (Rodrigues' rotation about v), contrast c, luma ±1, hue θ and saturation s have the product

        M = c·luma·P + c·s·(cos θ·(I - P) + sin θ·K),

    and brightness, which they find on the grey axis, becomes c·luma·b. M is exactly I for (0, 1, 1, 0, 1).

    Args:
        brightness: (B,), is added to every channel.
        contrast: (B,), factor.
        luma: (B,), -1 mirrors the grey axis (a negative of the right hue), 1 leaves it.
        hue: (B,), radians.
        saturation: (B,), factor.

    Returns:
        (B, 3, 4): linear part and offset.
    """
    options = {"dtype": brightness.dtype, "device": brightness.device}
    identity = torch.eye(3, **options)
    grey = torch.full((3, 3), 1 / 3, **options)
    cross = (identity.roll(1, 0) - identity.roll(-1, 0)) / 3**0.5  # [v]ₓ
    c, s, cosine = each(contrast), each(saturation), each(hue.cos())
    linear = c * s * (cosine * identity + each(hue.sin()) * cross) + c * (each(luma) - s * cosine) * grey
    offset = (contrast * luma * brightness)[:, None, None].expand(-1, 3, 1)
    return torch.cat([linear, offset], 2)


def recolor(pictures: Tensor, matrix: Tensor) -> Tensor:
    """Map every colour x to M x + offset; a picture whose matrix is the identity stays as it is, bit for bit.

    Args:
        pictures: (B, 3, S, S).
        matrix: (B, 3, 4), of `color_matrix`.
    """
    linear, offset = matrix[:, :, :3], matrix[:, :, 3]
    mapped = to_pictures(to_pixels(pictures) @ linear.mT + offset[:, None], pictures.shape[-1])
    fired = (matrix != torch.eye(3, 4, dtype=matrix.dtype, device=matrix.device)).flatten(1).any(1)
    return torch.where(fired[:, None, None, None], mapped, pictures)
