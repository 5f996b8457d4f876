"""An exponential moving average of the generator's weights, timed by images seen."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn


def decay(images_seen: int, batch: int, half_life: float, ramp: float) -> float:
    """Return the decay of the average in one step of ``batch`` images (EDM2's half-life form).

    Args:
        images_seen: before this step.
        half_life: images after which the weight of old parameters is one half.
        ramp: cap of the half-life as a fraction of the images seen, so that the early generator is forgotten soon;
            0: no cap.

    Returns:
        A factor in [0, 1).
    """
    if ramp:
        half_life = min(half_life, ramp * images_seen)
    return 0.5 ** (batch / half_life) if half_life > 0 else 0.0


class ExponentialMovingAverage:
    """The averaged copy of a generator, in eval mode.

    Args:
        generator: the network to average; it is copied, with its buffers.
        half_life, ramp: see `decay`. The half-life may be changed before any update; the ramp still caps it.
    """

    def __init__(self, generator: nn.Module, half_life: float, ramp: float) -> None:
        self.module = copy.deepcopy(generator).requires_grad_(False).eval()
        self.half_life, self.ramp = half_life, ramp
        self._statistics = _statistics(self.module)

    @torch.no_grad()
    def update(self, generator: nn.Module, images_seen: int, batch: int) -> None:
        """Update the average with the weights after a step of ``batch`` images; BatchNorm's statistics are copied."""
        weight = 1 - decay(images_seen, batch, self.half_life, self.ramp)
        torch._foreach_lerp_(  # pyright: ignore[reportPrivateImportUsage]
            list(self.module.parameters()), list(generator.parameters()), weight
        )
        for averaged, current in zip(self._statistics, _statistics(generator), strict=True):
            averaged.copy_(current)


def _statistics(generator: nn.Module) -> list[Tensor]:
    """Return BatchNorm's buffers, the only ones of a generator that training changes."""
    layers = (layer for layer in generator.modules() if isinstance(layer, nn.modules.batchnorm._BatchNorm))
    return [buffer for layer in layers for buffer in layer.buffers()]
