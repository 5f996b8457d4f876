"""The command line: which checks there are, and running them in the order of their worth."""

from __future__ import annotations

import json
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from gpu_check import correctness, speed, whole_runs
from gpu_check.check import Check, Outcome
from gpu_check.machine import Machine
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError
from shards.core.version import revision

# In the order of their worth, with about the seconds that each takes on an H100.
CHECKS = (
    Check(correctness.place, 2),
    Check(correctness.keyed_numbers, 3),
    Check(correctness.parity, 45),
    Check(correctness.no_waiting, 25),
    Check(correctness.repeats, 30),
    Check(correctness.broken_step, 20),
    Check(correctness.saving, 20),
    Check(whole_runs.whole_runs, 60),
    Check(speed.pace, 130),
    Check(speed.graphed, 25),
    Check(speed.second_derivative, 25),
    Check(speed.compiled, 40),
    Check(whole_runs.feed, 25),
)


@dataclass(frozen=True)
class GpuCheckOptions:
    """Check on one GPU what no CPU can say of the trainer: correctness, repeatability, speed and memory."""

    json: Path = option(Path("gpu-check.json"), "file for all figures, written after each check")
    only: tuple[str, ...] = option((), "checks to run (default: all)", choices=tuple(check.name for check in CHECKS))
    seconds: float = option(480, "time limit: a check whose estimate does not fit is left out", above=0)
    cpu: bool = option(False, "rehearse on the CPU at tiny sizes, which shows only that the checks run")


def run(options: GpuCheckOptions) -> int:
    """Run the checks, print a table and write the figures.

    Returns:
        The number of failures.

    Raises:
        UserError: there is no GPU.
    """
    if not options.cpu and not torch.cuda.is_available():
        raise UserError("device-missing", "torch sees no CUDA GPU; --cpu rehearses the checks on the CPU")
    machine, start = Machine(torch.device("cpu" if options.cpu else "cuda")), time.monotonic()
    results: dict[str, Any] = {"benchmark": "gpu_check", "commit": revision(), "rehearsal": options.cpu, "checks": {}}
    results["left out"] = []
    print(f"{'':6}{'check':<20}{'seconds':>8}  result", flush=True)
    for check in CHECKS:
        if options.only and check.name not in options.only:
            continue
        if time.monotonic() - start + (0 if options.cpu else check.seconds) > options.seconds:
            results["left out"].append(check.name)
            _write(results, options.json)
            continue
        began = time.monotonic()
        outcome = outcome_of(check, machine)
        took = time.monotonic() - began
        found = {"verdict": outcome.verdict, "says": outcome.says, "seconds": took, "figures": outcome.figures}
        results["checks"][check.name] = found
        says = outcome.says.replace("\n", "\n" + " " * 36)
        print(f"{outcome.verdict:<6}{check.name:<20}{took:>8.1f}  {says}", flush=True)
        _write(results, options.json)
    failures = sum(found["verdict"] == "FAIL" for found in results["checks"].values())
    left_out = f"; no time was left for {', '.join(results['left out'])}" if results["left out"] else ""
    print(f"{failures} of {len(results['checks'])} checks failed{left_out}")
    return failures


def outcome_of(check: Check, machine: Machine) -> Outcome:
    """Run a check; an error is a failure, and the other checks go on."""
    try:
        return check.function(machine)
    except Exception as error:
        traceback.print_exc()
        return Outcome(False, f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}")


def _write(results: dict[str, Any], file: Path) -> None:
    file.write_text(json.dumps(results, indent=2, default=str) + "\n", encoding="utf-8")


def main(argv: Sequence[str]) -> None:
    """Run the command line; exits with the number of failures."""
    failures = run(cli.parse(GpuCheckOptions, argv, command="python benchmarks/gpu_check"))
    if failures:
        sys.exit(failures)
