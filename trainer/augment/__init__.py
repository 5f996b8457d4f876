"""Differentiable augmentation T of the images that D sees, real and generated.

Augmentation keeps D from memorizing a small dataset. Generated images pass through the same differentiable changes, so
the generator still learns to draw unchanged images. Every change is a keyed draw of the image's position in the stream:
processes, micro-batches and resuming do not alter it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainer.augment import ada, diff
from trainer.augment.draws import Draws

# (images (P·B, 3, S, S), P purposes, positions (B,)) -> images of the same shape, dtype and memory format
Augment = Callable[[Tensor, Sequence[str], Tensor], Tensor]


def augment(
    images: Tensor,
    seed: int,
    purposes: Sequence[str],
    positions: Tensor,
    *,
    policy: str | tuple[str, ...],
    p: Tensor | float = 1.0,
    flip: bool = False,
) -> Tensor:
    """Return the augmented images. Call it outside of autocast: colours would lose precision in bf16.

    Args:
        images: (P·B, 3, S, S), in about [-1, 1]: a batch for each purpose, one batch after the other. The result may
            leave the range.
        seed: seed of the run.
        purposes: P names of uses; other purposes at the same positions draw differently.
        positions: int64 (B,), positions in the stream.
        policy: "ada", or a selection of DiffAugment's "color", "translation" and "cutout".
        p: probability of each of ADA's changes, or that DiffAugment changes an image at all; a scalar.
        flip: allow mirroring.

    Returns:
        The same shape, dtype and memory format, with gradients with respect to ``images``.
    """
    channels_last = images.is_contiguous(memory_format=torch.channels_last)
    if policy == "ada":
        draws = Draws(seed, purposes, positions, images.dtype, even=ada.EVEN, bell=ada.BELL)
        changed = ada.ada_augment(images, draws, torch.as_tensor(p, device=images.device), flip)
    else:
        draws = Draws(seed, purposes, positions, images.dtype, even=diff.EVEN)
        changed = diff.diff_augment(images, draws, tuple(policy), flip, p)
    return changed.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def unchanged(images: Tensor, purposes: Sequence[str], positions: Tensor) -> Tensor:
    """Return the images as they are: no augmentation."""
    return images
