"""Whether our training step keeps what it should give back: how much memory a run has as its steps go by.

    python benchmarks/memory.py [--presets smoke,faces32] [--steps 2000] [--json FILE]

Each preset trains in a process of its own, and its memory is read after every tenth of the steps. The last lines are
what it grew by from the first tenth to the last: warming up, and what is made once, come before that.
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

# Run as a file, Python looks for modules beside the file and not in the repository.
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
    """Watch the memory (resident) of our training step over many steps."""

    presets: tuple[str, ...] = option(("smoke",), "what to watch", choices=tuple(CASES))
    steps: int = option(2_000, "of training", minimum=1)
    seconds: float = option(600, "begin no further tenth of a preset after this many", above=0)
    mixed_precision: str = option("auto", "of the step", choices=("auto", "no", "bf16", "fp16"))
    json: Path | None = option(None, "write the figures to this file too")


def serve(name: str, precision: str, pipe: Connection) -> None:
    """A process that trains a case by so many steps whenever told to, and says how many MB it has then."""
    _, step = our_state(name, Distributed(precision=precision))
    process = psutil.Process()
    while steps := pipe.recv():
        for _ in range(steps):
            step()
        pipe.send(process.memory_info().rss / MEGABYTE)


def watch(name: str, asked: MemoryOptions) -> dict[str, Any]:
    """Train a case, as far as its time allows.

    Returns:
        The figures, ready for JSON: steps so far and MB, a tenth a row.
    """
    pipe = spawn(serve, name, asked.mixed_precision)
    began, done = time.monotonic(), 0
    rows: list[tuple[int, float]] = []
    for tenth in range(1, 11):
        if rows and time.monotonic() - began > asked.seconds:
            break
        due = -(-asked.steps * tenth // 10)
        if due == done:  # fewer than ten steps
            continue
        pipe.send(due - done)
        done = due
        rows.append((done, pipe.recv()))
    pipe.send(0)
    return {"steps": done, "growth": rows[-1][1] - rows[0][1], "rows": rows}


def describe(name: str, figures: dict[str, Any]) -> str:
    """Its line: after a tenth of the steps, half of them, all of them."""
    rows = figures["rows"]
    shown = dict(rows[at] for at in (0, (len(rows) - 1) // 2, -1))
    return f"{name}: {', '.join(f'{found:,.1f} MB after {count:,} steps' for count, found in shown.items())}"


def main(argv: Sequence[str]) -> None:
    """Watch, print, and write the figures where asked."""
    asked = cli.parse(MemoryOptions, argv, command="python benchmarks/memory.py")
    figures: dict[str, Any] = {"benchmark": "memory", "presets": {}, "torch": torch.__version__}
    figures |= {"version": shards.__version__, "commit": revision()}
    for name in asked.presets:
        with explained(name):
            figures["presets"][name] = watch(name, asked)
        print(describe(name, figures["presets"][name]), flush=True)
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, found in figures["presets"].items():
        print(f"growth: {found['growth']:.1f} MB in {found['steps']:,} steps ({name})")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
