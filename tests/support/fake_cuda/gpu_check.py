"""The checks of `benchmarks/gpu_check` on the fake GPU, as far as they go without numbers."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

from support import ROOT
from support.fake_cuda.meter import Meter

import torch  # isort: skip - after the rig

sys.path.insert(0, str(ROOT / "benchmarks"))

from gpu_check import correctness, machine, speed
from gpu_check.check import Check

from support.fake_cuda.training import Stream

# Those that compare numbers are left out.
CHECKS = (correctness.place, correctness.no_waiting, correctness.saving, speed.pace, speed.second_derivative)
METER = Meter()


def run_checks() -> dict[str, tuple[str, str]]:
    """Return the verdict and the words of each check, with one small network and the smallest preset."""
    gpu = machine.Machine(torch.device("cuda"))
    with _stand_ins(), METER:  # which also gives host copies a content
        outcomes = {Check(function, 0).name: function(gpu) for function in CHECKS}
    return {name: (outcome.verdict, outcome.says) for name, outcome in outcomes.items()}


@contextlib.contextmanager
def _stand_ins() -> Iterator[None]:
    card = SimpleNamespace(name="a GPU that does not exist", total_memory=85_000_000_000)
    functions: dict[str, Callable[..., Any]] = {
        "get_device_properties": lambda device: card,
        "set_sync_debug_mode": lambda mode: None,
        "empty_cache": lambda: None,
        "reset_peak_memory_stats": lambda: None,
        "max_memory_allocated": lambda: 0,
    }
    with contextlib.ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch, "equal", return_value=True))
        stack.enter_context(mock.patch.object(machine, "NETWORKS", {"r3gan": machine.NETWORKS["r3gan"]}))
        stack.enter_context(mock.patch.object(machine.benchmark, "synthetic", _synthetic))
        stack.enter_context(mock.patch.object(machine.benchmark, "WIDTHS", (3, 1, 2)))
        stack.enter_context(mock.patch.object(machine.Machine, "seconds_of", _once))
        stack.enter_context(mock.patch.object(speed, "PRESETS", {"smoke": (16, "--preset smoke", "smoke")}))
        stack.enter_context(mock.patch.object(speed, "kernels", _counted))
        yield


def _synthetic(config: Any, size: int) -> Any:
    return Stream(config.data.batch, size)[0]


def _once(self: machine.Machine, action: Callable[[], object], least: float, repetitions: int = 1) -> float:
    action()
    return 1.0


def _counted(gpu: machine.Machine, training: machine.Training, number: int) -> tuple[int, float, list[Any]]:
    """Count kernels as the budget of `test_cuda_path` does."""
    METER.restart()
    training.run(1, number)
    return sum(METER.kernels.values()), 0.5, []
