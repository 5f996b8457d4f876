"""Choose the device, and check that it exists."""

from __future__ import annotations

import os

import torch

from shards.core.errors import UserError


def choose(requested: str) -> torch.device:
    """Return the device of "auto" (a CUDA GPU if torch sees one, else the CPU; never mps), "cpu", "cuda" or "mps".

    A launcher that is configured for the CPU makes "auto" the CPU. It can be overridden by nothing but its own
    configuration, as Accelerate obeys it whatever it is asked for.

    Raises:
        UserError: the device does not exist, or the launcher is configured for the CPU.
    """
    on_cpu = _launched_on_cpu()
    if on_cpu and requested in ("cuda", "mps"):
        raise UserError(
            "launcher-mismatch",
            f"--device {requested}: the launcher is configured for the CPU (by --cpu, or by use_cpu in its "
            "configuration file); launch without it, or use --device cpu",
        )
    if requested == "cuda" and not torch.cuda.is_available():
        raise UserError(
            "device-missing",
            "--device cuda: torch sees no CUDA GPU; use --device cpu, or install a CUDA build of torch",
        )
    if requested == "mps" and not torch.backends.mps.is_available():
        raise UserError("device-missing", "--device mps: torch sees no Apple GPU; use --device cpu")
    if requested == "auto":
        requested = "cuda" if torch.cuda.is_available() and not on_cpu else "cpu"
    return torch.device(requested)


def _launched_on_cpu() -> bool:
    """Return whether `accelerate launch` is configured for the CPU; it always exports this."""
    return os.environ.get("ACCELERATE_USE_CPU", "false").lower() in ("true", "1", "yes")
