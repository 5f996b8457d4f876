"""ADA's adaptive probability, which rises while D overfits the real images (Karras et al. 2020, section 3)."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

_EVERY = 4  # steps between two updates


class AdaptiveProbability:
    """A probability p that follows r = E[sign D(real)], which approaches 1 as D memorizes the real images (eq. 1, r_t).

    For a relativistic D, whose logits have no absolute zero, r is the mean sign of D(real) - D(fake).

    p and the sums are tensors on the device, so no step waits for them. Sums of signs are integers, exact in any order:
    the number of processes, and a resume within an interval, do not change p.

    Args:
        target: p rises if r is above it and falls if r is below it.
        speed: images in which p can change from 0 to 1.
        batch: images per step, over all processes.
        device: of the images.
        dtype: of the arithmetic.
    """

    def __init__(self, target: float, speed: float, batch: int, device: torch.device, dtype: torch.dtype) -> None:
        self.target, self.speed, self.batch = target, speed, batch
        self.p = torch.zeros((), device=device, dtype=dtype)
        self.signs = torch.zeros((), device=device, dtype=dtype)  # of this rank, since the last update

    def count(self, mean: Tensor) -> None:
        """Add the signs of a step.

        Args:
            mean: scalar, this rank's sum of signs divided by the *global* batch size.
        """
        self.signs = self.signs + (mean * self.batch).round()  # an integer

    def update(self, step: int, add: Callable[[Tensor], Tensor]) -> None:
        """Update p after every fourth step.

        Args:
            step: number of the finished step, from 0.
            add: sums a tensor over the ranks.
        """
        if (step + 1) % _EVERY:
            return
        images = _EVERY * self.batch
        direction = (add(self.signs) - self.target * images).sign()
        self.p = (self.p + direction * (images / self.speed)).clamp(0, 1)
        self.signs = torch.zeros_like(self.signs)

    def gather_on_rank0(self, add: Callable[[Tensor], Tensor], is_rank0: bool) -> None:
        """Sum the signs of all ranks on rank 0, which saves them; every rank calls this."""
        self.signs = add(self.signs) * is_rank0

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, after `gather_on_rank0`."""
        return {"p": self.p, "signs": self.signs}

    def load(self, tensors: dict[str, Tensor], is_rank0: bool) -> None:
        """Restore what was saved; rank 0 takes the sums of all ranks."""
        self.p = tensors["p"].to(self.p)
        self.signs = tensors["signs"].to(self.signs) * is_rank0
