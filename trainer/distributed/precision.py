"""What "auto" precision means on a device: what the hardware computes fast."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from shards.core.errors import UserError

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
# Without one of these, bf16 convolutions on a CPU are emulated, 4 to 20 times slower than fp32.
_CPU_BF16 = {"avx512_bf16", "amx_bf16"}


def resolve(asked: str, device: torch.device) -> str:
    """The precision to compute in, "no", "bf16" or "fp16"; of "auto", what the launcher was told, else what is fast.

    Raises:
        UserError: the device cannot compute in the precision that was asked for.
    """
    if asked == "fp16" and device.type != "cuda":
        raise UserError("--mixed-precision: fp16 needs a CUDA GPU; use bf16, no or auto")
    if asked != "auto":
        return asked
    launched = os.environ.get("ACCELERATE_MIXED_PRECISION", "no")  # the launcher always exports one; "no" means unset
    if launched in AUTOCAST and not (launched == "fp16" and device.type != "cuda"):
        return launched
    if device.type == "cuda":
        return "bf16" if torch.cuda.get_device_capability(device) >= (8, 0) else "fp16"
    return "bf16" if device.type == "cpu" and _CPU_BF16 & _cpu_flags() else "no"


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
