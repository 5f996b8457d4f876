"""Resolve the precision: "auto" is what the hardware computes fast."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from shards.core.errors import UserError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Without one of these, bf16 convolutions on a CPU are emulated, 4 to 20 times slower than fp32.
_CPU_BF16 = {"avx512_bf16", "amx_bf16"}


def resolve(requested: str, device: torch.device) -> str:
    """Return the precision, "no", "bf16" or "fp16"; for "auto", the launcher's if it has one, else a fast one.

    Raises:
        UserError: the device does not support the requested precision.
    """
    if requested == "fp16" and device.type != "cuda":
        raise UserError("precision-unsupported", "--mixed-precision: fp16 needs a CUDA GPU; use bf16, no or auto")
    if requested != "auto":
        return requested
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # the launcher always exports one; "no" means unset
    if launched in AUTOCAST and not (launched == "fp16" and device.type != "cuda"):
        return launched
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _CPU_BF16 & _cpu_flags() else "no"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
