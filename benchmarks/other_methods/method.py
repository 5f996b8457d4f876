"""The interface of a method, so that `other_run.py` can train it and `other_evaluation.py` can evaluate it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor, nn


class Method(Protocol):
    """A generative model in training.

    Attributes:
        batch: images per step.
        noise_size: length of the generator's noise vector.
    """

    batch: int
    noise_size: int

    def step(self, images: Tensor, label: Tensor, known: Tensor, seen: int) -> Mapping[str, float]:
        """Train one step.

        Args:
            images: uint8 (batch, 3, S, S).
            label: float32 (batch, L).
            known: float32 (batch, A), 0 or 1.
            seen: images seen before this step.

        Returns:
            Losses by name.
        """
        ...

    def generator(self) -> nn.Module:
        """Return the module of z (B, noise_size), label and known that draws what the method would show, -1 to 1."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """Return everything that it needs to resume, by name."""
        ...

    def load(self, tensors: Mapping[str, Tensor], seen: int) -> None:
        """Restore what `tensors` returned at ``seen`` images."""
        ...


def named(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with ``prefix:`` before their names."""
    return {f"{prefix}:{name}": tensor for name, tensor in tensors.items()}


def of(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors that `named` gave this prefix, by their names without it."""
    return {
        name.removeprefix(f"{prefix}:"): tensor for name, tensor in tensors.items() if name.startswith(f"{prefix}:")
    }
