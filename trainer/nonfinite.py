"""Count the steps whose gradients are not finite.

`trainer.distributed.process_group.Distributed.step` skips such a step on the device: weights and optimizer moments stay
as they are. The counts here are one step late, so that no step waits for the device. Gradients are equal on all ranks,
and so are the counts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor


class NonFiniteGuard:
    """Counter of skipped steps.

    Args:
        wait: waits until a GPU has reached an event; None: without regard to anything else.
        scaled: a loss scaler searches its scale, and gradients that overflow are part of the search.

    Attributes:
        skipped: steps skipped in total.
        unexpected: those of them, since this guard was made, that no loss scaler explains: a loss was not finite, or
            there is no scaler.
        consecutive: steps skipped in a row, up to the last counted one.
        terms: metric keys of what was not finite in the last skipped step, on this rank ("loss/d", "grad/g").
        unexpected_terms: the same, in the last unexpected one.
    """

    def __init__(self, wait: Callable[[torch.cuda.Event], None] | None = None, scaled: bool = False) -> None:
        self._wait = wait or torch.cuda.Event.synchronize
        self._scaled = scaled
        self.skipped, self.unexpected, self.consecutive = 0, 0, 0
        self.terms: list[str] = []
        self.unexpected_terms: list[str] = []
        self._pending: tuple[list[str], list[str], Tensor, torch.cuda.Event | None] | None = None

    def observe(self, losses: Mapping[str, Tensor], grad_norms: Mapping[str, Tensor]) -> None:
        """Take the scalars of a step, and count the step before it."""
        self.flush()
        broken = ~torch.stack([*losses.values(), *grad_norms.values()]).detach().isfinite()
        copied = None
        if broken.is_cuda:
            broken = torch.empty_like(broken, device="cpu", pin_memory=True).copy_(broken, non_blocking=True)
            copied = torch.cuda.Event(blocking=True)  # others keep a core busy while they are waited for
            copied.record()
        self._pending = list(losses), list(grad_norms), broken, copied

    def flush(self) -> None:
        """Count the last step too. This waits for the device."""
        if self._pending is None:
            return
        losses, grad_norms, broken, copied = self._pending
        self._pending = None
        if copied is not None:
            self._wait(copied)
        terms = [name for name, bad in zip([*losses, *grad_norms], broken.tolist(), strict=True) if bad]
        if not set(terms).isdisjoint(grad_norms):
            self.skipped, self.consecutive, self.terms = self.skipped + 1, self.consecutive + 1, terms
            if not self._scaled or not set(terms).isdisjoint(losses):
                self.unexpected, self.unexpected_terms = self.unexpected + 1, terms
        else:
            self.consecutive = 0
