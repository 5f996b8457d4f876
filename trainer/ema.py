"""An exponential moving average of the generator's weights, timed by images seen."""

from __future__ import annotations

import copy

import torch
from torch import nn


def decay(images_seen: int, batch: int, half_life: float, ramp: float) -> float:
    """How much of the average survives one step of ``batch`` images (EDM2's half-life form).

    Args:
        images_seen: before this step.
        half_life: images after which old weights count half.
        ramp: the half-life is at most this share of the images seen, so that the bad start is soon
            forgotten; 0: no ramp.

    Returns:
        A factor in [0, 1).
    """
    if ramp:
        half_life = min(half_life, ramp * images_seen)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class ExponentialMovingAverage:
    """Holds the averaged copy of a generator, ready to draw with.

    Args:
        generator: whose weights to follow; it is copied, with its buffers.
        half_life, ramp: see `decay`. The half-life may be set anew before any update; the ramp caps it as ever.
    """

    def __init__(self, generator: nn.Module, half_life: float, ramp: float) -> None:
        self.module = copy.deepcopy(generator).requires_grad_(False).eval()
        self.half_life, self.ramp = half_life, ramp

    @torch.no_grad()
    def update(self, generator: nn.Module, images_seen: int, batch: int) -> None:
        """Move towards ``generator`` by what ``batch`` images after ``images_seen`` are worth; buffers are copied."""
        weight = 1 - decay(images_seen, batch, self.half_life, self.ramp)
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.module.parameters()), list(generator.parameters()), weight
        )
        for own, theirs in zip(self.module.buffers(), generator.buffers(), strict=True):
            own.copy_(theirs)
