"""DiffAugment: color, translation and cutout of D's images (Zhao et al. 2020, arXiv 2006.10738, section 4)."""

from __future__ import annotations

from torch import Tensor

from trainer.augment.draws import Draws
from trainer.augment.pixels import each, lines, pick

EVEN = 9  # uniform draws in total
_LARGEST_SHIFT = 1 / 8  # of the side
_HOLE = 1 / 2  # side of the cutout, relative to the image


def diff_augment(images: Tensor, draws: Draws, kinds: tuple[str, ...], flip: bool, p: Tensor | float = 1.0) -> Tensor:
    """Apply all changes in ``kinds``, always in the same order.

    Args:
        images: (B, 3, S, S), 0 is mid-grey.
        draws: with `EVEN` uniform draws.
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
    """Change brightness by ±0.5, saturation by 0 … 2 around grey, contrast by 0.5 … 1.5 around the mean."""
    x = images + draws.between(-0.5, 0.5)[:, None, None, None]
    grey = x.mean(1, keepdim=True)
    x = grey + (x - grey) * draws.between(0, 2)[:, None, None, None]
    mean = x.mean((1, 2, 3), keepdim=True)
    return mean + (x - mean) * draws.between(0.5, 1.5)[:, None, None, None]


def _translation(images: Tensor, draws: Draws) -> Tensor:
    """Shift by up to an eighth of the side in x and y, in whole pixels, padded with zeros."""
    side = images.shape[-1]
    most = round(side * _LARGEST_SHIFT)
    i, j = lines(images)
    rows, columns = (line + each(draws.whole(2 * most + 1)) - most for line in (i, j))
    inside = (rows >= 0) & (rows < side) & (columns >= 0) & (columns < side)
    moved = pick(images, rows.clamp(0, side - 1) * side + columns.clamp(0, side - 1))
    return moved.masked_fill(~inside[:, None], 0)


def _cutout(images: Tensor, draws: Draws) -> Tensor:
    """Zero a square of half the side around a random centre; it may extend beyond the image."""
    side = images.shape[-1]
    hole = round(side * _HOLE)
    i, j = lines(images)
    top, left = (each(draws.whole(side + 1 - hole % 2)) - hole // 2 for _ in range(2))
    cut = (i >= top) & (i < top + hole) & (j >= left) & (j < left + hole)
    return images.masked_fill(cut[:, None], 0)
