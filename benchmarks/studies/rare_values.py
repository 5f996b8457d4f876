"""Measure whether a rare value is obeyed like the common ones, with and without --balance.

    python benchmarks/studies/rare_values.py --out DIR [--percent 1] [--colour green] [--seeds 1] [--images 20000]

Of the example faces, those with one hair colour are left out until they are so many percent of the images. A run with
`--balance hair` and one without it see equally many images. A judge trained on all faces then says, for every
checkpoint, in how many generated images the hair colour is right: of the rare one, and of the others. Existing
datasets, runs and results are reused: re-run the same command to resume.
"""

from __future__ import annotations

import csv
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

# When run as a script, Python searches the script's directory for modules, not the repository nor the benchmarks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from questions.judging import checkpoints
from questions.training import train

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import exit_status
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_rows
from shards.examples.faces import HAIR, Faces, faces
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.label_accuracy import label_accuracy
from trainer.generation.sampler import load
from trainer.presets import PRESETS

VARIANTS: dict[str, tuple[str, ...]] = {"as they are": (), "--balance hair": ("--balance", "hair")}


@dataclass(frozen=True)
class RareOptions:
    """Train with a rare hair colour, with and without --balance, and compare how it is obeyed."""

    out: Path = option(Path("runs/rare-values"), "output folder; existing datasets and runs are reused")
    percent: float = option(1.0, "images with the rare colour, in percent of all", minimum=0.1, maximum=50)
    colour: str = option("green", "the rare hair colour", choices=tuple(HAIR))
    seeds: int = option(1, "runs per variant, with seeds 0, 1, …", minimum=1)
    images: int = option(20_000, "training images per run", minimum=1)
    every: int = option(10_000, "images between two checkpoints, each of which is judged", minimum=1)
    faces: int = option(6_000, "number of faces before some are left out", minimum=400)
    size: int = option(32, "height and width of the faces in pixels", minimum=16)
    preset: str = option("faces32", "preset of all runs", choices=tuple(PRESETS))
    count: int = option(3_000, "images generated per checkpoint for the judge", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)


class Obedience(NamedTuple):
    """Fractions of images with the right hair colour."""

    rare: float
    common: float  # all other colours together
    worst: float  # the least obeyed of them


def make(options: RareOptions) -> tuple[Dataset, Dataset]:
    """Draw and pack the faces, unless that is done; return all of them, and those with a rare colour."""
    drawn = options.out / "faces"
    if not drawn.exists():
        faces(Faces(out=drawn, count=options.faces, size=options.size))
    with (drawn / "tags.csv").open(newline="", encoding="utf-8") as file:
        rows = [(row["id"], row["tags"]) for row in csv.DictReader(file)]
    rare = [row for row in rows if f"{options.colour} hair" in row[1]]
    fraction = options.percent / 100
    kept = {name for name, _ in rare[: round((len(rows) - len(rare)) * fraction / (1 - fraction))]}
    few = [row for row in rows if row not in rare or row[0] in kept]
    return _packed(options, "all", rows), _packed(options, f"{options.colour}-{options.percent:g}", few)


def _packed(options: RareOptions, name: str, rows: Sequence[tuple[str, str]]) -> Dataset:
    out = options.out / "data" / name
    if not out.exists():
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{name}.") as folder:
            source = Path(folder)
            (source / "images").mkdir()
            for image, _ in rows:
                os.link(options.out / "faces" / "images" / f"{image}.png", source / "images" / f"{image}.png")
            shutil.copy(options.out / "faces" / "source.json", source)  # the licence
            with (source / "tags.csv").open("w", newline="", encoding="utf-8") as file:
                csv.writer(file, lineterminator="\n").writerows([("id", "tags"), *rows])
            shards.pack(source, out, size=options.size, name="faces", yes=True)
    return Dataset.open(out)


def judge_run(
    options: RareOptions, judge: Judge, everything: Dataset, data: Dataset, run: Path
) -> dict[int, Obedience]:
    """Judge every checkpoint of a run; labels are asked for as often as they occur among all faces."""
    rows = sample_rows(len(everything), options.count, 1, "what the judge asks for")
    wanted = Labels(np.asarray(everything.labels[rows], np.float32), np.asarray(everything.known[rows], bool))
    if everything.schema != data.schema:
        raise RuntimeError("both datasets have all values, in the same order")
    hair = next(i for i, a in enumerate(everything.schema.attributes) if f"{options.colour} hair" in a.values)
    values, start = everything.schema.attributes[hair].values, int(everything.schema.starts[hair])
    rare = values.index(f"{options.colour} hair")
    found = {}
    for seen in checkpoints(run):
        images = load(run, str(seen), device="cpu").generate(wanted, seed=1)
        logits = judge.logits(images)
        right = {}
        for value in range(len(values)):
            cells = np.flatnonzero(wanted.label[:, start + value])
            accuracy = label_accuracy(judge.schema, logits[cells], *(part[cells] for part in wanted))
            right[value] = accuracy.attributes[hair].tally
        common = [tally for value, tally in right.items() if value != rare]
        whole = sum(tally.right for tally in common) / sum(tally.count for tally in common)
        found[seen] = Obedience(right[rare].fraction, whole, min(tally.fraction for tally in common))
    return found


def table(results: dict[str, list[dict[int, Obedience]]]) -> Iterator[str]:
    """Return the lines of a Markdown table: one row per variant and checkpoint, means over the seeds in percent."""
    yield "| images drawn | images seen | seeds | rare colour, % | other colours, % | the worst of them, % |"
    yield "|---" * 6 + "|"
    for variant, runs in results.items():
        for seen in sorted(set.intersection(*map(set, runs))):
            means = 100 * np.mean([run[seen] for run in runs], axis=0)
            yield f"| {variant} | {seen:,} | {len(runs)} | {' | '.join(f'{mean:.1f}' for mean in means)} |"


def main(argv: Sequence[str]) -> None:
    """Run the study."""
    options = cli.parse(RareOptions, argv, command="python benchmarks/studies/rare_values.py")
    torch.set_num_threads(1)
    everything, data = make(options)
    print(f"{options.colour} hair: {options.percent:g} % of {len(data):,} faces")
    judge = judge_of(everything, cache=options.out / "judge")
    results: dict[str, list[dict[int, Obedience]]] = {}
    for seed in range(options.seeds):
        for variant, added in VARIANTS.items():
            kind = "balanced" if added else "plain"
            run = options.out / "runs" / f"{options.colour}-{options.percent:g}_{kind}_{seed}"
            words = ["--preset", options.preset, "--shards", data.path, "--seed", seed]
            train(run, options.images, [*words, "--checkpoint-every", options.every, "--keep", 1000, *added])
            results.setdefault(variant, []).append(judge_run(options, judge, everything, data, run))
            print("\n".join(table({variant: results[variant]})), flush=True)
    print("\n".join(["", *table(results)]))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
