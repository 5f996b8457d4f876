"""Options of the machine: devices, precision, processes and threads."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError


@dataclass(frozen=True, kw_only=True)
class MachineConfig:
    """How the computation is carried out on the hardware."""

    accumulate: int = option(1, "gradient accumulation: micro-batches per process and step", minimum=1, may_change=True)
    mixed_precision: str = option(
        "auto", "auto: the fastest precision that the hardware supports", choices=("auto", "no", "bf16", "fp16")
    )
    penalty_precision: str = option(
        "auto",
        "precision of steps with a gradient penalty; auto: bf16 if the run's is, else float32; full: float32",
        choices=("auto", "full"),
    )
    deterministic: bool = option(
        False, "repeat a run bit for bit on GPUs too, which is slower; CPUs always do", may_change=True
    )
    compile: bool = option(
        False,
        "compile the networks with torch.compile: slower start, faster steps; on a CPU this needs g++ or clang++",
        may_change=True,
    )
    dtype: str = option(
        "float32", "dtype of weights and arithmetic; float64 is for numerical checks", choices=("float32", "float64")
    )
    device: str = option(
        "auto",
        "device to train on; auto: a CUDA GPU if available, else the CPU",
        choices=("auto", "cpu", "cuda", "mps"),
        may_change=True,
    )
    workers: int | None = option(
        None, "data-loading processes per rank (default: chosen by the number of cores)", minimum=0, may_change=True
    )
    threads: int = option(
        0, "CPU threads per rank; 0: divide the machine's cores among its ranks", minimum=0, may_change=True
    )
    timeout: float = option(
        300, "seconds that a rank waits for an unresponsive one before it stops", above=0, may_change=True
    )

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds, or the precisions contradict each other.
        """
        cli.validate(self)
        if self.dtype == "float64" and self.mixed_precision not in ("auto", "no"):
            raise UserError("option-conflict", "--dtype float64 has no mixed precision; leave --mixed-precision out")
