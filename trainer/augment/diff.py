"""DiffAugment: color, translation and cutout of D's images (Zhao et al. 2020, arXiv 2006.10738, section 4)."""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.draws import Draws
from trainer.augment.pixels import ALPHA, each, erase, lines, opacity, pick

UNIFORM = 9  # draws in total
_LARGEST_SHIFT = 1 / 8  # of the side
_HOLE = 1 / 2  # side of the cutout, relative to the image


def diff_augment(images: Tensor, draws: Draws, kinds: tuple[str, ...], flip: bool, p: Tensor | float = 1.0) -> Tensor:
    """Apply all changes in ``kinds``, always in the same order.

    Args:
        images: (B, C, H, W), 0 is mid-grey; with alpha, see `weigh_by_alpha`.
        draws: with `UNIFORM` uniform draws.
        kinds: a selection of "color", "translation" and "cutout".
        flip: also mirror each image with probability ½.
        p: probability in [0, 1] that an image is changed at all.
    """
    changed = images
    if flip:
        changed = _mirror(changed, draws)
    if "color" in kinds:
        changed = _color(changed, draws)
    if "translation" in kinds:
        changed = _translation(changed, draws)
    if "cutout" in kinds:
        changed = _cutout(changed, draws)
    fires = draws.fires(p)  # drawn last, so that p does not change the other draws
    return changed.where(fires[:, None, None, None], images)


def _mirror(images: Tensor, draws: Draws) -> Tensor:
    return images.where(~draws.fires(0.5)[:, None, None, None], images.flip(3))


def _color(images: Tensor, draws: Draws) -> Tensor:
    """Change brightness by ±0.5, saturation by 0 … 2 around grey, contrast by 0.5 … 1.5 around the mean.

    With alpha, what is added is weighted by it, and the mean is that of the visible colours.
    """
    opaque = opacity(images)
    x = images[:, :ALPHA] + draws.between(-0.5, 0.5)[:, None, None, None] * opaque
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draws.between(0, 2)[:, None, None, None]
    mean = x.mean((1, 2, 3), keepdim=True)
    if isinstance(opaque, Tensor):
        mean = mean / opaque.mean((1, 2, 3), keepdim=True).clamp(min=1e-3) * opaque
    x = mean + (x - mean) * draws.between(0.5, 1.5)[:, None, None, None]
    return torch.cat([x, images[:, ALPHA:]], 1) if images.shape[1] > ALPHA else x


def _translation(images: Tensor, draws: Draws) -> Tensor:
    """Shift by up to an eighth of the sides in x and y, in whole pixels, padded with blank ones."""
    height, width = images.shape[2:]
    rows, columns = (
        line + each(draws.whole(2 * most + 1)) - most
        for line, most in zip(lines(images), (round(side * _LARGEST_SHIFT) for side in (height, width)), strict=True)
    )
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    return erase(pick(images, rows.clamp(0, height - 1) * width + columns.clamp(0, width - 1)), ~inside)


def _cutout(images: Tensor, draws: Draws) -> Tensor:
    """Erase a part of half the height and width around a random centre; it may extend beyond the image."""
    i, j = lines(images)
    tall, wide = (round(side * _HOLE) for side in images.shape[2:])
    top, left = (
        each(draws.whole(side + 1 - hole % 2)) - hole // 2
        for side, hole in zip(images.shape[2:], (tall, wide), strict=True)
    )
    return erase(images, (i >= top) & (i < top + tall) & (j >= left) & (j < left + wide))
