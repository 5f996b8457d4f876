"""Train the runs of a study."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from questions.judging import checkpoints
from shards.core.errors import Failure

MAIN = Path(__file__).resolve().parents[3] / "trainer" / "main.py"
# One thread and no worker, so that several runs, or other work, can share a machine.
QUIET = ("--threads", 1, "--workers", 0, "--log-with", "none")


def train(run: Path, images: int, words: Sequence[object]) -> None:
    """Train a run to its end, on one thread; do nothing if it is complete.

    Args:
        run: its directory, next to which its log is written.
        images: its total images.
        words: its other options.

    Raises:
        Failure: the trainer failed; its own words are in the run's log.
    """
    if max(checkpoints(run), default=0) >= images:
        return
    run.parent.mkdir(parents=True, exist_ok=True)
    print(f"training {run.name}", flush=True)
    log = run.with_name(f"{run.name}.log")
    line = [sys.executable, MAIN, "--run", run, "--total-images", images, "--grid-every", images, *QUIET, *words]
    with log.open("ab") as file:
        status = subprocess.run(list(map(str, line)), stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise Failure("process-failed", f"{run.name}: the trainer exited with status {status}; see {log}")
