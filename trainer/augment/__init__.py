"""Differentiable augmentation T of the images that D sees, real and generated.

Augmentation keeps D from memorizing a small dataset. Generated images pass through the same differentiable changes, so
the generator still learns to draw unchanged images. Every change is a keyed draw of the image's position in the stream:
processes, micro-batches and resuming do not alter it.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from trainer.augment import ada, diff
from trainer.augment.draws import Draws

Policy = str | tuple[str, ...]  # "ada", or a selection of DiffAugment's "color", "translation" and "cutout"


class Augment(Protocol):
    """T: (images (P·B, C, H, W), draws for P purposes) -> images of the same shape, dtype and memory format.

    Attributes:
        numbers: how many uniform and how many normal numbers an image takes.
    """

    @property
    def numbers(self) -> tuple[int, int]: ...

    def __call__(self, images: Tensor, draws: Draws) -> Tensor: ...


class Unchanged:
    """T that returns the images as they are: no augmentation."""

    numbers = (0, 0)

    def __call__(self, images: Tensor, draws: Draws) -> Tensor:
        """Return ``images``."""
        return images


def numbers_of(policy: Policy) -> tuple[int, int]:
    """Return how many uniform and how many normal numbers `augment` takes for an image."""
    return (ada.UNIFORM, ada.NORMAL) if policy == "ada" else (diff.UNIFORM, 0)


def augment(images: Tensor, draws: Draws, *, policy: Policy, p: Tensor | float = 1.0, flip: bool = False) -> Tensor:
    """Return the augmented images. Call it outside of autocast: colours would lose precision in bf16.

    Args:
        images: (P·B, C, H, W), in about [-1, 1]: a batch for each purpose, one batch after the other; with alpha, see
            `weigh_by_alpha`. The result may leave the range.
        draws: of these purposes, with `numbers_of` the policy for each image.
        policy: the changes.
        p: probability of each of ADA's changes, or that DiffAugment changes an image at all; a scalar.
        flip: allow mirroring.

    Returns:
        The same shape, dtype and memory format, with gradients with respect to ``images``.
    """
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if policy == "ada":
        chance = p if isinstance(p, Tensor) else torch.full((), p, device=images.device)  # waits for no copy
        changed = ada.ada_augment(images, draws, chance, flip)
    else:
        changed = diff.diff_augment(images, draws, tuple(policy), flip, p)
    return changed.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)
