"""Choose the device, and check that it exists."""

from __future__ import annotations

import torch

from shards.core.errors import UserError


def choose(requested: str) -> torch.device:
    """Return the device of "auto" (a CUDA GPU if torch sees one, else the CPU; never mps), "cpu", "cuda" or "mps".

    Raises:
        UserError: the device does not exist.
    """
    if requested == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device-missing",
            "--device cuda: torch sees no CUDA GPU; use --device cpu, or install a CUDA build of torch",
        )
    if requested == "mps" and not torch.backends.mps.is_available():
        raise UserError("device-missing", "--device mps: torch sees no Apple GPU; use --device cpu")
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(requested)
