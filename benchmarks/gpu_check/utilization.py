"""How much of a card's arithmetic a training uses: its model FLOP/s divided by the card's peak (MFU)."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from gpu_check.machine import Machine

# Dense TFLOP/s by the vendor's data sheets: in half precision (summed in float32), in TF32, and in float32. The first
# card whose words are in the device's name is it.
PEAKS: tuple[tuple[str, float, float, float], ...] = (
    ("H100 PCIe", 756, 378, 51),
    ("H100", 989, 495, 67),
    ("H200", 989, 495, 67),
    ("GH200", 989, 495, 67),
    ("A100", 312, 156, 19.5),
    ("L40S", 362, 183, 91.6),
    ("L4", 121, 60, 30.3),
    ("A10", 125, 62.5, 31.2),
    ("RTX A6000", 155, 77.4, 38.7),
    ("RTX 4090", 165, 82.6, 82.6),
    ("RTX 3090", 71, 35.6, 35.6),
    ("V100", 125, 15.7, 15.7),
    ("T4", 65, 8.1, 8.1),
)


class FlopCounter(TorchDispatchMode):
    """Counts the floating-point operations of what runs within this context, as torch's own formulas have them.

    torch's `FlopCounterMode` also attributes them to modules, with hooks that `torch.autograd.grad` does not allow.
    """

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None) -> Any:
        out = func(*args, **kwargs or {})
        if formula := flop_registry.get(func._overloadpacket):
            self.total += formula(*args, **kwargs or {}, out_val=out)
        return out


def flop_of(action: Callable[[], object]) -> int:
    """Return the floating-point operations of the convolutions and matrix products of an action, which is run once."""
    with FlopCounter() as counter:
        action()
    return counter.total


def peak_of(card: str, precision: str, tf32: bool) -> float | None:
    """Return the FLOP/s that a card can do at most, or None if it is not in the table.

    Args:
        card: name of the device.
        precision: of the run, "no", "bf16" or "fp16".
        tf32: whether float32 is TF32.
    """
    for name, half, reduced, full in PEAKS:
        if re.search(rf"\b{re.escape(name)}\b", card):
            return 1e12 * (half if precision != "no" else reduced if tf32 else full)
    return None


def mfu_of(machine: Machine, flop: float, seconds: float, precision: str, tf32: bool) -> float | None:
    """Return the part of this card's peak that ``flop`` in so many seconds are, or None if the peak is not known."""
    peak = peak_of(torch.cuda.get_device_name(machine.device), precision, tf32) if machine.is_gpu else None
    return flop / seconds / peak if peak else None
