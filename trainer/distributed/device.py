"""Which device "auto" means, and whether the one that was asked for is there."""

from __future__ import annotations

import torch

from shards.core.errors import UserError


def choose(asked: str) -> torch.device:
    """The device of "auto" (a CUDA GPU if torch sees one, else the CPU; never mps), "cpu", "cuda" or "mps".

    Raises:
        UserError: it is not there.
    """
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("--device cuda: torch sees no CUDA GPU; use --device cpu, or install a CUDA build of torch")
    if asked == "mps" and not torch.backends.mps.is_available():
        raise UserError("--device mps: torch sees no Apple GPU; use --device cpu")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)
