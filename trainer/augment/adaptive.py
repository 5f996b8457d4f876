"""ADA's probability, which rises while D is too sure of the real pictures (Karras et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EVERY = 4  # steps between two updates


class AdaptiveProbability:
    """p follows r = E[sign D(real)], which nears 1 as D learns the real pictures by heart (equation 1, r_t).

    Of a relativistic D it is the sign of D(real) - D(fake), as its logits have no zero of their own.

    p and the sums are tensors on the device: no step waits for them. Sums of signs are whole numbers, exact in any
    order: neither processes nor a resume in the middle of an interval change what p becomes.

    Args:
        target: r above it raises p, below it lowers p.
        speed: images in which p can go from 0 to 1.
        batch: images a step, over all processes.
        device: of the pictures.
        dtype: of the arithmetic.
    """

    def __init__(self, target: float, speed: float, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.target, self.speed, self.batch = target, speed, batch
        self.p = torch.zeros((), device=device, dtype=dtype)
        self.signs = torch.zeros((), device=device, dtype=dtype)  # of this process, since the last update

    def count(self, mean: Tensor) -> None:
        """Take in a step's signs.

        Args:
            mean: scalar, this process's sum of those signs over the *global* batch's size.
        """
        self.signs = self.signs + (mean * self.batch).round()  # the whole number that it was

    def update(self, step: int, add: Callable[[Tensor], Tensor]) -> None:
        """Move p after every fourth step.

        Args:
            step: number of the step that has ended, from 0.
            add: sums a tensor over the processes.
        """
        if (step + 1) % _EVERY:
            return
        images = _EVERY * self.batch
        direction = (add(self.signs) - self.target * images).sign()
        self.p = (self.p + direction * (images / self.speed)).clamp(0, 1)
        self.signs = torch.zeros_like(self.signs)

    def pool(self, add: Callable[[Tensor], Tensor], is_first: bool) -> None:
        """Hand the sums of all processes to the first, which saves; all processes call this."""
        self.signs = add(self.signs) * is_first

    def tensors(self) -> dict[str, Tensor]:
        """What a checkpoint keeps, after `pool`."""
        return {"p": self.p, "signs": self.signs}

    def load(self, tensors: dict[str, Tensor], is_first: bool) -> None:
        """Become what was saved; the first process takes the sums of all."""
        self.p = tensors["p"].to(self.p)
        self.signs = tensors["signs"].to(self.signs) * is_first
