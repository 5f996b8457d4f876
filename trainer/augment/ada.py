"""ADA's pipeline: each change fires on its own with probability p (Karras et al. 2020, arXiv 2006.06676, appendix B).

With p well below 1, the generator learns the pictures and not their changes. A change that does not fire has the
parameter that leaves a picture alone, hence the products with flags below: 0 in all cases.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.augment.color import color_matrix, recolor
from trainer.augment.draws import Draws
from trainer.augment.geometry import blit, source_matrix, warp

EVEN, BELL = 21, 7  # draws that all of it takes
_LARGEST_SHIFT = 1 / 8  # of the side


def ada_augment(pictures: Tensor, draws: Draws, p: Tensor, flip: bool) -> Tensor:
    """Pixel blitting, then a warp, then colours; at p = 0 the same bits.

    Args:
        pictures: (B, 3, S, S).
        draws: with `EVEN` uniform and `BELL` normal ones.
        p: scalar in [0, 1].
        flip: whether pictures may be mirrored, and turned by quarters.
    """
    pictures = _blitted(pictures, draws, p, flip)
    pictures = warp(pictures, _drawn_warp(draws, p))
    return recolor(pictures, _drawn_colors(draws, p))


def _blitted(pictures: Tensor, draws: Draws, p: Tensor, flip: bool) -> Tensor:
    reach = pictures.shape[-1] * _LARGEST_SHIFT
    mirrored = draws.fires(p) & draws.fires(0.5) & flip
    turns = draws.fires(p) * draws.whole(4) * flip
    shifted = draws.fires(p)
    right, down = (shifted * draws.between(-reach, reach).round().long() for _ in range(2))
    return blit(pictures, mirrored, turns, right, down)


def _drawn_warp(draws: Draws, p: Tensor) -> Tensor:
    """(B, 2, 3). Of the two rotations at least one fires with probability p."""
    p_turn = 1 - (1 - p).sqrt()
    zoom = torch.exp2(draws.fires(p) * draws.normal(0.2))
    before = draws.fires(p_turn) * draws.angle()
    stretch = torch.exp2(draws.fires(p) * draws.normal(0.2))
    after = draws.fires(p_turn) * draws.angle()
    moved = draws.fires(p)
    right, down = (moved * draws.normal(1 / 8) for _ in range(2))
    return source_matrix(zoom, before, stretch, after, right, down)


def _drawn_colors(draws: Draws, p: Tensor) -> Tensor:
    """(B, 3, 4)."""
    brightness = draws.fires(p) * draws.normal(0.2)
    contrast = torch.exp2(draws.fires(p) * draws.normal(0.5))
    luma = 1 - 2 * (draws.fires(p) & draws.fires(0.5)).to(brightness.dtype)
    hue = draws.fires(p) * draws.angle()
    saturation = torch.exp2(draws.fires(p) * draws.normal(1.0))
    return color_matrix(brightness, contrast, luma, hue, saturation)
