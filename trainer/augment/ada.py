"""ADA's pipeline: each change is applied with probability p (Karras et al. 2020, arXiv 2006.06676, appendix B).

With p well below 1, the generator learns the images and not their augmentations. A change that is not applied has the
neutral parameter 0, hence the products with flags below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.color import color_matrix, recolor
from trainer.augment.draws import Draws
from trainer.augment.geometry import blit, source_matrix, warp

UNIFORM, NORMAL = 21, 7  # draws in total
_LARGEST_SHIFT = 1 / 8  # of the side


def ada_augment(images: Tensor, draws: Draws, p: Tensor, flip: bool) -> Tensor:
    """Apply pixel blitting, a warp, and colour changes; at p = 0 the images stay the same bit for bit.

    Args:
        images: (B, C, H, W); with alpha, see `weigh_by_alpha`.
        draws: with `UNIFORM` uniform and `NORMAL` normal draws.
        p: scalar in [0, 1].
        flip: allow mirroring and quarter turns; of images that are not square, half turns alone.
    """
    images = _blit_randomly(images, draws, p, flip)
    images = warp(images, _draw_warp(draws, p, images.shape[2:]))
    return recolor(images, _draw_colors(draws, p))


def _blit_randomly(images: Tensor, draws: Draws, p: Tensor, flip: bool) -> Tensor:
    height, width = images.shape[2:]
    mirrored = draws.fires(p) & draws.fires(0.5 if flip else 0)
    turns = draws.fires(p) * draws.whole(4 if flip else 1)
    if height != width:
        turns = turns & 2
    shifted = draws.fires(p)
    right, down = (shifted * draws.shift(side * _LARGEST_SHIFT) for side in (width, height))
    return blit(images, mirrored, turns, right, down)


def _draw_warp(draws: Draws, p: Tensor, sides: tuple[int, ...]) -> Tensor:
    """Return warp matrices (B, 2, 3). At least one of the two rotations is applied with probability p."""
    p_turn = 1 - (1 - p).sqrt()
    zoom = torch.exp2(draws.fires(p) * draws.normal(0.2))
    before = draws.fires(p_turn) * draws.angle()
    stretch = torch.exp2(draws.fires(p) * draws.normal(0.2))
    after = draws.fires(p_turn) * draws.angle()
    moved = draws.fires(p)
    right, down = (moved * draws.normal(1 / 8) for _ in range(2))
    height, width = sides
    return source_matrix(zoom, before, stretch, after, right, down, sides=(height, width))


def _draw_colors(draws: Draws, p: Tensor) -> Tensor:
    """Return colour matrices (B, 3, 4)."""
    brightness = draws.fires(p) * draws.normal(0.2)
    contrast = torch.exp2(draws.fires(p) * draws.normal(0.5))
    luma = 1 - 2 * (draws.fires(p) & draws.fires(0.5)).to(brightness.dtype)
    hue = draws.fires(p) * draws.angle()
    saturation = torch.exp2(draws.fires(p) * draws.normal(1.0))
    return color_matrix(brightness, contrast, luma, hue, saturation)
