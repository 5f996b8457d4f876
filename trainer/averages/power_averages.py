"""The two power-function averages of the generator's weights that a run keeps, in float32 or more."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.averages.profiles import LENGTHS, decay

_BUFFERS = "buffers"


class PowerAverages:
    """Averages of a generator's parameters, one of each of `LENGTHS`, timed by images seen.

    Args:
        generator: the network to average. Its buffers are not averaged.
    """

    def __init__(self, generator: nn.Module) -> None:
        self._names = [name for name, _ in generator.named_parameters()]
        self._averages = {length: [_precise(p).clone() for p in generator.parameters()] for length in LENGTHS}

    @torch.no_grad()
    def update(self, generator: nn.Module, images_seen: int, batch: int) -> None:
        """Update both averages with the weights after the step of ``batch`` images that ends at ``images_seen``."""
        current = [_precise(p) for p in generator.parameters()]
        for length, averages in self._averages.items():
            weight = 1 - decay(images_seen, batch, length)
            torch._foreach_lerp_(averages, current, weight)  # pyright: ignore[reportPrivateImportUsage]

    def tensors(self) -> dict[str, Tensor]:
        """Return both averages by ``LENGTH/parameter``; they are not copied."""
        return {key_of(length, name): tensor for length, name, tensor in self._items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Restore what `tensors` returned."""
        for length, name, tensor in self._items():
            tensor.copy_(tensors[key_of(length, name)])

    def _items(self) -> list[tuple[float, str, Tensor]]:
        return [
            (length, name, tensor)
            for length, averages in self._averages.items()
            for name, tensor in zip(self._names, averages, strict=True)
        ]


def snapshot(averages: PowerAverages, generator: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a snapshot: both averages, and the buffers of ``generator`` (BatchNorm's statistics)."""
    names = {name for name, _ in generator.named_parameters()}
    buffers = {f"{_BUFFERS}/{k}": tensor for k, tensor in generator.state_dict().items() if k not in names}
    return averages.tensors() | buffers


def key_of(length: float, name: str) -> str:
    """Return the key of a parameter in a saved average."""
    return f"{length:.2f}/{name}"


def buffers_of(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the buffers in a snapshot by name."""
    prefix = f"{_BUFFERS}/"
    return {key.removeprefix(prefix): tensor for key, tensor in tensors.items() if key.startswith(prefix)}


def _precise(parameter: Tensor) -> Tensor:
    """Return a parameter in float32 or more, without its graph; the same memory if it has that already."""
    return parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32))
