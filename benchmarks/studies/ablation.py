"""Ablation of preset faces32: train the full recipe, and the recipe without each ingredient, for equal times.

    python benchmarks/studies/ablation.py --out DIR [--without image-kernel,level-means] [--seeds 3] [--minutes 5]
        [--jobs 2]

First the pace of each variant is measured in processor time, all of them in turns. Each then trains as many images as
fit into its minutes, with schedules that end there, and `cgan evaluate` evaluates its last checkpoint. Existing
datasets, runs and results are reused: re-run the same command to resume; more seeds add to earlier results.
"""

from __future__ import annotations

import functools
import statistics
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

# When run as a script, Python searches the script's directory for modules, not the repository nor the benchmarks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from quality import command
from quality.jobs import run_all
from quality.pace import ProcessorTime, measure, pace_of
from questions import data
from questions.judging import checkpoints
from questions.training import MAIN, QUIET, train

from shards.core import cli
from shards.core.cli import option
from shards.core.errors import UserError, exit_status
from trainer.run import evaluation_file

WHOLE = "everything"
# Ingredient -> the options that take it out.
WITHOUT = {
    "image-kernel": "--image-kernel 1",
    "level-means": "--level-means false",
    "modulation": "--modulation false",
    "label-loss": "--label-loss 0",
    "joint-updates": "--updates alternating",
    "mode-seeking": "--mode-seeking 0",
    "falling-gamma": "--gamma-end 0.4",  # where it begins
    "cooldown": "--cooldown-to 1",  # learning rates stay; gamma and mode seeking still fall
    "small-batches": "--batch 16 --lr-g 1.4e-3 --lr-d 1.4e-3",
    "hard-wrong-labels": "--wrong sample",
}
_ROW = 512  # images of a line of log where the pace is measured
_NEVER = 1_000_000_000
# Metric of `cgan evaluate` -> (column, factor).
_COLUMNS = {
    "fidelity/hair": ("hair, %", 100),
    "fidelity/hair (long/short/tied)": ("length, %", 100),
    "fidelity/eyes": ("eyes, %", 100),
    "fid": ("Fréchet distance", 1),
    "precision": ("precision, %", 100),
    "recall": ("recall, %", 100),
    "coverage": ("coverage, %", 100),
}

Figures = Mapping[str, float]


@dataclass(frozen=True)
class AblationOptions:
    """Train the recipe without each of its ingredients for equal times, and compare."""

    out: Path = option(Path("runs/ablation"), "output folder; existing datasets, runs and results are reused")
    without: tuple[str, ...] = option(tuple(WITHOUT), "ingredients to leave out, one at a time", choices=tuple(WITHOUT))
    seeds: int = option(3, "runs per variant, with seeds 0, 1, …", minimum=1)
    minutes: float = option(5, "processor time of each run, on one thread", above=0)
    faces: int = option(6_000, "number of faces in the dataset", minimum=400)
    size: int = option(32, "height and width of the faces in pixels", minimum=16)
    count: int = option(2_000, "images generated for the evaluation", minimum=4)
    turns: int = option(2, "pieces per variant to measure its pace", minimum=1)
    jobs: int = option(2, "runs at the same time, each on one thread", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)

    @property
    def variants(self) -> dict[str, str]:
        """Return the options that each variant adds to those of the preset, by its name."""
        return {WHOLE: "", **{name: WITHOUT[name] for name in self.without}}

    def words(self, variant: str) -> tuple[object, ...]:
        """Return the options of a variant's runs."""
        return ("--preset", "faces32", "--shards", self.out / "data" / "labelled", *self.variants[variant].split())

    def run(self, variant: str, seed: int) -> Path:
        """Return the directory of a run."""
        return self.out / f"{self.minutes:g}-minutes" / f"{variant}_{seed}"


def measure_pace(options: AblationOptions) -> dict[str, float]:
    """Return the processor seconds per image of each variant; measure what is missing."""
    pace = options.out / "pace"

    def piece(name: str, run: Path, words: Sequence[object]) -> None:
        print(f"pace of {name}", flush=True)
        rarely = ("--grid-every", _NEVER, "--checkpoint-every", _NEVER)
        line = (MAIN, "--run", run, *rarely, *QUIET, *options.words(name), *words)
        command.run(run.with_name(f"{run.name}.log"), *line, watch=ProcessorTime(run).watch)

    measure(pace, dict.fromkeys(options.variants, _ROW), options.turns, piece)
    return {name: pace_of(pace / name, "processor") for name in options.variants}


def results(options: AblationOptions, variant: str, seed: int, images: int) -> Figures:
    """Train a run to its end and evaluate that, unless it is done.

    Raises:
        Failure: the trainer or the evaluation failed; see its output in the log.
    """
    run = options.run(variant, seed)
    train(run, images, [*options.words(variant), "--seed", seed, "--checkpoint-every", images])
    seen = max(checkpoints(run))
    if (figures := _evaluated(run, seen, options.count)) is None:
        words = ("--count", options.count, "--features", "lite2", "--metrics", "fidelity,fid,prdc", "--threads", 1)
        command.run(run.with_name(f"{run.name}.log"), "-m", "trainer", "evaluate", run, *words)
        figures = _evaluated(run, seen, options.count)
    if figures is None:
        raise UserError("file-damaged", f"{run}: the evaluation has left no results; remove this folder")
    return figures


def _evaluated(run: Path, seen: int, count: int) -> Figures | None:
    """Return the figures of a checkpoint by as many images; None if it was not evaluated."""
    entries = [entry for entry in evaluation_file.read(run).get(seen, []) if entry.get("count") == count]
    return entries[-1]["figures"] if entries else None


def table(found: Mapping[str, Sequence[Figures]], images: Mapping[str, int]) -> Iterator[str]:
    """Return the lines of a Markdown table: one row per variant, medians over its seeds with the extremes.

    Args:
        found: figures of each seed, by variant.
        images: that each variant trained.
    """
    yield f"| without | images | seeds | {' | '.join(title for title, _ in _COLUMNS.values())} |"
    yield "|---" * (3 + len(_COLUMNS)) + "|"
    for name, runs in found.items():
        cells = [_cell([run[key] for run in runs if key in run], scale) for key, (_, scale) in _COLUMNS.items()]
        title = f"*nothing: {name}*" if name == WHOLE else name
        yield f"| {title} | {images[name]:,} | {len(runs)} | {' | '.join(cells)} |"


def _cell(values: Sequence[float], scale: float) -> str:
    if not values:
        return "–"  # the judge was too weak
    low, middle, high = (scale * f(values) for f in (min, statistics.median, max))
    digits = 0 if scale == 1 else 1
    alone = f"{middle:,.{digits}f}"
    return alone if len(values) == 1 else f"{alone} ({low:,.{digits}f}–{high:,.{digits}f})"


def main(argv: Sequence[str]) -> None:
    """Run the study."""
    options = cli.parse(AblationOptions, argv, command="python benchmarks/studies/ablation.py")
    data.make(options.out / "data", options.faces, options.size, ())
    command.run(options.out / "judge.log", "-m", "trainer", "judge", options.out / "data" / "labelled")
    pace = measure_pace(options)
    images = {name: round(60 * options.minutes / seconds) for name, seconds in pace.items()}
    found: dict[str, list[Figures]] = {name: [] for name in options.variants}
    for seed in range(options.seeds):
        calls = [functools.partial(results, options, name, seed, images[name]) for name in options.variants]
        for name, figures in zip(options.variants, run_all(calls, options.jobs), strict=True):
            found[name].append(figures)
        print("\n".join(["", *table(found, images)]), flush=True)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
