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

from gpu_check import machine, speed
from gpu_check.command import CHECKS

from shards.dataset.image_shape import ImageShape
from support.fake_cuda.training import Stream

METER = Meter()


def run_check(name: str) -> tuple[str, str]:
    """Return the verdict and the words of a check, with one small network and the smallest preset."""
    function = next(check.function for check in CHECKS if check.name == name)
    with _stand_ins(), METER:  # which also gives copies on the CPU a content
        outcome = function(machine.Machine(torch.device("cuda")))
    return outcome.verdict, outcome.says


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
        preset = (16, "--preset smoke --penalty-every 2", "smoke")
        stack.enter_context(mock.patch.object(speed, "PRESETS", {"smoke": preset}))
        stack.enter_context(mock.patch.object(speed, "VARIANTS", {"": {}, "TF32": {"tf32": True}}))
        stack.enter_context(mock.patch.object(speed, "kernels", _counted))
        yield


def _synthetic(config: Any, size: int) -> Any:
    return Stream(config.data.batch, ImageShape.of(size))[0]


def _once(self: machine.Machine, action: Callable[[], object], least: float, repetitions: int = 1) -> float:
    action()
    return 1.0


def _counted(gpu: machine.Machine, training: machine.Training, number: int) -> tuple[int, float, list[Any]]:
    """Count kernels as the budget of `test_cuda_path` does."""
    METER.restart()
    training.run(1, number)
    return sum(METER.kernels.values()), 0.5, []
