"""Check our training step for memory leaks: measure the memory of a run over many steps.

    python benchmarks/memory.py [--presets smoke,faces32] [--steps 2000] [--json FILE]

Each preset trains in a separate process, and its memory is read after every tenth of the steps. The last lines are the
growth from the first tenth to the last: warm-up and one-time allocations happen before that.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psutil
import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from step import CASES, MEGABYTE, explained, our_state, spawn

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import exit_status
from shards.core.version import revision
from trainer.distributed.process_group import Distributed


@dataclass(frozen=True)
class MemoryOptions:
    """Measure the resident memory of our training step over many steps."""

    presets: tuple[str, ...] = option(("smoke",), "presets to measure", choices=tuple(CASES))
    steps: int = option(2_000, "training steps", minimum=1)
    seconds: float = option(600, "time budget per preset: start no further tenth after this many seconds", above=0)
    mixed_precision: str = option("auto", "precision of the step", choices=("auto", "no", "bf16", "fp16"))
    json: Path | None = option(None, "also write the results to this file")


def serve(name: str, precision: str, pipe: Connection) -> None:
    """Run a process that trains a case for as many steps as each message says and replies with its memory in MB."""
    _, step = our_state(name, Distributed(precision=precision))
    process = psutil.Process()
    while steps := pipe.recv():
        for _ in range(steps):
            step()
        pipe.send(process.memory_info().rss / MEGABYTE)


def watch(name: str, options: MemoryOptions) -> dict[str, Any]:
    """Train a case within its time budget.

    Returns:
        The figures, ready for JSON: steps so far and MB, a tenth a row.
    """
    pipe = spawn(serve, name, options.mixed_precision)
    began, done = time.monotonic(), 0
    rows: list[tuple[int, float]] = []
    for tenth in range(1, 11):
        if rows and time.monotonic() - began > options.seconds:
            break
        due = -(-options.steps * tenth // 10)
        if due == done:  # fewer than ten steps
            continue
        pipe.send(due - done)
        done = due
        rows.append((done, pipe.recv()))
    pipe.send(0)
    return {"steps": done, "growth": rows[-1][1] - rows[0][1], "rows": rows}


def describe(name: str, figures: dict[str, Any]) -> str:
    """Return a line with the memory after a tenth, half and all of the steps."""
    rows = figures["rows"]
    shown = dict(rows[at] for at in (0, (len(rows) - 1) // 2, -1))
    return f"{name}: {', '.join(f'{found:,.1f} MB after {count:,} steps' for count, found in shown.items())}"


def main(argv: Sequence[str]) -> None:
    """Measure, print, and write the results if requested."""
    options = cli.parse(MemoryOptions, argv, command="python benchmarks/memory.py")
    figures: dict[str, Any] = {"benchmark": "memory", "presets": {}, "torch": torch.__version__}
    figures |= {"version": shards.__version__, "commit": revision()}
    for name in options.presets:
        with explained(name):
            figures["presets"][name] = watch(name, options)
        print(describe(name, figures["presets"][name]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, found in figures["presets"].items():
        print(f"growth: {found['growth']:.1f} MB in {found['steps']:,} steps ({name})")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
