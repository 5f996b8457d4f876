"""Train the runs of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from quality import command

from questions.judging import checkpoints

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
        Failure: the trainer failed; see its output in the log.
    """
    if max(checkpoints(run), default=0) >= images:
        return
    print(f"training {run.name}", flush=True)
    line = (MAIN, "--run", run, "--total-images", images, "--grid-every", images, *QUIET, *words)
    command.run(run.with_name(f"{run.name}.log"), *line)
