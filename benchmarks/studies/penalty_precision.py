"""Compare training with gradient penalties in bf16 and in float32: the same runs, seed by seed.

    python benchmarks/studies/penalty_precision.py --out DIR [--preset faces32] [--seeds 3] [--images 30000] [--jobs 2]

All runs use bf16 elsewhere. Prints the kernel distance (KID) and the label fidelity of every evaluation, as means over
the seeds, and the largest difference of a seed. Complete runs are reused: re-run the same command to resume.
"""

from __future__ import annotations

import functools
import json
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# When run as a script, Python searches the script's directory for modules, not the repository nor the benchmarks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from quality.jobs import run_all
from questions.training import train

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import exit_status
from shards.examples.faces import main as draw_faces
from trainer.metric_names import FIDELITY, KID
from trainer.presets import PRESETS

PRECISIONS = ("full", "auto")


@dataclass(frozen=True)
class PenaltyOptions:
    """Train with penalties in float32 and in bf16, and compare."""

    out: Path = option(Path("runs/penalty-precision"), "output folder; an existing dataset and runs are reused")
    preset: str = option("faces32", "preset of all runs", choices=tuple(PRESETS))
    seeds: int = option(3, "runs per precision, with seeds 0, 1, …", minimum=1)
    images: int = option(30_000, "training images per run", minimum=1)
    every: int = option(5_000, "images between two evaluations", minimum=1)
    faces: int = option(6_000, "number of faces in the dataset", minimum=400)
    size: int = option(32, "height and width of the faces in pixels", minimum=16)
    jobs: int = option(2, "runs at the same time, each on one thread", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)


def train_one(options: PenaltyOptions, precision: str, seed: int) -> None:
    """Train one run to its end; do nothing if it is complete."""
    words = ["--preset", options.preset, "--shards", options.out / "data", "--seed", seed]
    words += ["--mixed-precision", "bf16", "--penalty-precision", precision]
    words += ["--evaluate-every", options.every, "--checkpoint-every", options.images]
    train(options.out / f"{precision}-{seed}", options.images, words)


def evaluations(run: Path) -> dict[int, dict[str, float]]:
    """Return the metrics of a run's evaluations, by images seen."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {row["images_seen"]: row for row in rows if KID in row}


def compare(options: PenaltyOptions) -> list[str]:
    """Return one line per evaluation and metric: means over the seeds, and the largest difference of a seed."""
    runs = {
        precision: [evaluations(options.out / f"{precision}-{seed}") for seed in range(options.seeds)]
        for precision in PRECISIONS
    }
    lines = [f"{'images':>8}  {'metric':<20}{'float32':>10}{'bf16':>10}{'largest difference':>20}"]
    for seen in runs["full"][0]:
        for metric in (KID, FIDELITY):
            full, mixed = ([run[seen][metric] for run in runs[precision]] for precision in PRECISIONS)
            largest = max(abs(a - b) for a, b in zip(full, mixed, strict=True))
            means = f"{statistics.mean(full):>10.4f}{statistics.mean(mixed):>10.4f}"
            lines.append(f"{seen:>8,}  {metric:<20}{means}{largest:>20.4f}")
    return lines


def main(argv: Sequence[str]) -> None:
    """Run the study."""
    options = cli.parse(PenaltyOptions, argv, command="python benchmarks/studies/penalty_precision.py")
    options.out.mkdir(parents=True, exist_ok=True)
    if not (options.out / "data").exists():
        draw_faces([str(options.out / "faces"), "--count", str(options.faces), "--size", str(options.size)])
        shards.pack(options.out / "faces", options.out / "data", size=options.size, yes=True)
    for seed in range(options.seeds):
        run_all([functools.partial(train_one, options, precision, seed) for precision in PRECISIONS], options.jobs)
    print("\n".join(compare(options)))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
