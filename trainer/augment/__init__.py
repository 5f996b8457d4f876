"""Differentiable augmentation: what D is shown of every picture, real or generated.

D that has few pictures learns them by heart. Shown changed ones, it cannot; and if the generated pictures pass through
the same differentiable changes T, the generator learns through them to draw unchanged ones. Every change is decided
by keyed draws of the picture's place in the stream: neither processes, micro-batches nor a resume alter it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.augment import ada, diff
from trainer.augment.draws import Draws

# (pictures (B, 3, S, S), purpose, positions (B,)) -> pictures of the same shape, dtype and memory format
Augment = Callable[[Tensor, str, Tensor], Tensor]


def augment(
    pictures: Tensor,
    seed: int,
    purpose: str,
    positions: Tensor,
    *,
    policy: str | tuple[str, ...],
    p: Tensor | float = 1.0,
    flip: bool = False,
) -> Tensor:
    """T of the pictures. Call it outside of autocast: colours do not survive bf16.

    Args:
        pictures: (B, 3, S, S), about [-1, 1]; the result may leave it.
        seed: the run's seed.
        purpose: which pictures these are and for whom; others at the same positions draw differently.
        positions: int64 (B,), places in the stream.
        policy: "ada", or those of DiffAugment's "color", "translation", "cutout" to apply.
        p: probability of each of ADA's changes, or that DiffAugment changes a picture at all; a scalar.
        flip: whether pictures may be mirrored.

    Returns:
        The same shape, dtype and memory format, with gradients with respect to ``pictures``.
    """
    channels_last = pictures.is_contiguous(memory_format=torch.channels_last)
    if policy == "ada":
        draws = Draws(seed, purpose, positions, pictures.dtype, even=ada.EVEN, bell=ada.BELL)
        changed = ada.ada_augment(pictures, draws, torch.as_tensor(p, device=pictures.device), flip)
    else:
        draws = Draws(seed, purpose, positions, pictures.dtype, even=diff.EVEN)
        changed = diff.diff_augment(pictures, draws, tuple(policy), flip, p)
    return changed.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def unchanged(pictures: Tensor, purpose: str, positions: Tensor) -> Tensor:
    """No augmentation."""
    return pictures
