"""A program that trains like trainer/main.py and records the inputs of each process at each step.

    accelerate launch … tests/support/tracing.py FOLDER STOP WORD …

FOLDER receives one file per start and process, with one line of JSON per step: images seen before the step, each
image's position, a hash of its pixels, labels and wrong labels, and a hash of each noise vector with G's label. After
STOP images (0: never), rank 0 receives SIGTERM.
"""

from __future__ import annotations

import hashlib
import json
import os
import runpy
import signal
import sys
from pathlib import Path
from typing import IO, Any

from torch import Tensor

from shards.stream.batch import Batch
from trainer.state import TrainingState
from trainer.step import StepResult

MAIN = Path(__file__).resolve().parents[2] / "trainer" / "main.py"


def hashes(*columns: Tensor) -> list[str]:
    """Return one hash per row over all columns (b, …)."""
    rows = zip(*(column.detach().contiguous().numpy() for column in columns), strict=True)
    return [hashlib.sha256(b"".join(part.tobytes() for part in row)).hexdigest()[:16] for row in rows]


def install(folder: Path, stop: int) -> None:
    """Record every step of this process."""
    rank = int(os.environ.get("RANK", "0"))
    drawn: list[str] = []
    files: list[IO[str]] = []
    step = TrainingState.step

    def traced(state: TrainingState, batch: Batch) -> StepResult:
        if not files:
            state.g.module.register_forward_pre_hook(lambda _, args: drawn.extend(hashes(*args)))
            files.append((folder / f"{state.images_seen:06d}-{state.env.world_size}-{rank}.jsonl").open("w"))
        drawn.clear()
        row: dict[str, Any] = {"images_seen": state.images_seen, "positions": batch.positions.tolist()}
        row["images"] = hashes(*batch[:6])
        result = step(state, batch)
        count = len(batch.images)
        row["noise"] = [drawn[start : start + count] for start in range(0, len(drawn), count)]  # D's step, G's step
        print(json.dumps(row), file=files[0], flush=True)
        if stop and rank == 0 and state.images_seen == stop:
            os.kill(os.getpid(), signal.SIGTERM)
        return result

    TrainingState.step = traced  # type: ignore[method-assign]


if __name__ == "__main__":
    install(Path(sys.argv[1]), int(sys.argv[2]))
    sys.argv[:] = [str(MAIN), *sys.argv[3:]]
    sys.path[0] = str(MAIN.parent)
    runpy.run_path(str(MAIN), run_name="__main__")
