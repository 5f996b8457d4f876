"""Steps whose gradients are not finite: skipped on the device, counted here one step late, so that nothing waits.

`trainer.distributed.process_group.Distributed.step` leaves weights and moments as they are on such a step. Gradients
are the same on all processes, and so is what this counts.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


class Guard:
    """Counts the steps that were skipped.

    Attributes:
        skipped: in all.
        in_a_row: up to now.
        terms: names of what was not finite in the last of them, on this process ("loss/d", "grad/g").
    """

    def __init__(self) -> None:
        self.skipped, self.in_a_row = 0, 0
        self.terms: list[str] = []
        self._before: tuple[list[str], Tensor, torch.cuda.Event | None] | None = None

    def look(self, scalars: Mapping[str, Tensor]) -> None:
        """Take in what a step measured, and count the step before it."""
        self.settle()
        names = [name for name in scalars if name.startswith(("loss/", "grad/"))]
        broken = ~torch.stack([scalars[name].detach().isfinite() for name in names])
        arrived = None
        if broken.is_cuda:
            broken = torch.empty_like(broken, device="cpu", pin_memory=True).copy_(broken, non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
        self._before = names, broken, arrived

    def settle(self) -> None:
        """Count the last step too; this waits for it."""
        if self._before is None:
            return
        names, broken, arrived = self._before
        self._before = None
        if arrived is not None:
            arrived.synchronize()
        terms = [name for name, bad in zip(names, broken.tolist(), strict=True) if bad]
        if any(name.startswith("grad/") for name in terms):
            self.skipped, self.in_a_row, self.terms = self.skipped + 1, self.in_a_row + 1, terms
        else:
            self.in_a_row = 0
