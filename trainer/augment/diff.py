"""DiffAugment: a few plain changes to every picture that D sees (Zhao et al. 2020, arXiv 2006.10738, section 4)."""

from __future__ import annotations

from torch import Tensor

from trainer.augment.draws import Draws
from trainer.augment.pixels import each, lines, pick

EVEN = 9  # uniform draws that all of it takes
_LARGEST_SHIFT = 1 / 8  # of the side
_HOLE = 1 / 2  # side of the square that is cut out, of the picture's


def diff_augment(pictures: Tensor, draws: Draws, kinds: tuple[str, ...], flip: bool, p: Tensor | float = 1.0) -> Tensor:
    """Change pictures in all the ways that ``kinds`` names, always in the same order.

    Args:
        pictures: (B, 3, S, S), 0 is mid-grey.
        draws: with `EVEN` uniform ones.
        kinds: of "color", "translation", "cutout".
        flip: also mirror every other picture.
        p: probability in [0, 1] that a picture is changed, in all these ways; others stay as they are.
    """
    changed = pictures
    if flip:
        changed = _mirror(changed, draws)
    if "color" in kinds:
        changed = _color(changed, draws)
    if "translation" in kinds:
        changed = _translation(changed, draws)
    if "cutout" in kinds:
        changed = _cutout(changed, draws)
    return changed.where(draws.fires(p)[:, None, None, None], pictures)  # drawn last: p moves no other draw


def _mirror(pictures: Tensor, draws: Draws) -> Tensor:
    return pictures.where(~draws.fires(0.5)[:, None, None, None], pictures.flip(3))


def _color(pictures: Tensor, draws: Draws) -> Tensor:
    """Brightness ±0.5; saturation 0 … 2, about each pixel's grey; contrast 0.5 … 1.5, about the picture's mean."""
    x = pictures + draws.between(-0.5, 0.5)[:, None, None, None]
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draws.between(0, 2)[:, None, None, None]
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * draws.between(0.5, 1.5)[:, None, None, None]


def _translation(pictures: Tensor, draws: Draws) -> Tensor:
    """Shift by up to an eighth of the side in x and y, whole pixels; what comes in is zero."""
    side = pictures.shape[-1]
    most = round(side * _LARGEST_SHIFT)
    i, j = lines(pictures)
    rows, columns = (line + each(draws.whole(2 * most + 1)) - most for line in (i, j))
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    moved = pick(pictures, rows.clamp(0, side - 1), columns.clamp(0, side - 1))
    return moved.masked_fill(~inside[:, None], 0)


def _cutout(pictures: Tensor, draws: Draws) -> Tensor:
    """Zero a square of half the side, whose centre is anywhere, so that part of it may lie outside."""
    side = pictures.shape[-1]
    hole = round(side * _HOLE)
    i, j = lines(pictures)
    top, left = (each(draws.whole(side + 1 - hole % 2)) - hole // 2 for _ in range(2))
    cut = (i >= top) & (i < top + hole) & (j >= left) & (j < left + hole)
    return pictures.masked_fill(cut[:, None], 0)
