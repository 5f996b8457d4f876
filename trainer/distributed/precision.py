"""Resolve the precision: "auto" is what the hardware computes fast. Set what float32 means on a GPU."""

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


def disable_tf32() -> None:
    """Let float32 on a GPU be float32.

    Tensor cores of Ampere and newer GPUs can round float32 factors to TF32, which has a mantissa of 10 bits. Torch lets
    cuDNN do so by default, and an environment variable cuBLAS. Here float32 is used where it is meant: in a run without
    mixed precision, in penalties of full precision, in augmentation's matrices and in the networks of evaluation.
    """
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def use_deterministic_algorithms() -> None:
    """Use operations that give the same bits each time on a GPU, and warn of those that have no such form.

    Call this before cuBLAS is used, which reads its variable then.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined] - nothing reads it here
    torch.backends.cudnn.deterministic = True
    torch.backends.cudnn.benchmark = False


def _cpu_flags() -> set[str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return set()
    return set(next((line.split(":", 1)[1].split() for line in lines if line.startswith("flags")), []))
