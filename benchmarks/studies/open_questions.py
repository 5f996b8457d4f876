"""Answer the article's four open questions with runs of one preset on the example faces.

    python benchmarks/studies/open_questions.py --out DIR [--questions noise,language] [--seeds 3]
        [--images 30000] [--options "--family residual"] [--jobs 2]

Makes the datasets, trains every variant with every seed (all variants with seed 0 first), and evaluates every
checkpoint with a classifier trained on real images. Existing results are reused: re-run the same command to resume;
more seeds add to earlier results. Other options, and other numbers of images if learning rates fall towards the end of
a run, need another folder.
"""

from __future__ import annotations

import functools
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

# When run as a script, Python searches the script's directory for modules, not the repository nor the benchmarks.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from quality.jobs import run_all
from questions import data, figures, judging, plot
from questions.training import train

import shards
from shards.core import cli
from shards.core.atomic_io import write_bytes, write_json
from shards.core.cli import option
from shards.core.errors import UserError, exit_status
from shards.core.version import revision
from shards.dataset.dataset import Dataset


@dataclass(frozen=True)
class Variant:
    """A variant: the options that its runs share.

    Attributes:
        words: options, added to those that all runs have.
        data: the dataset to train on, a name of `questions.data.DATA_SETS`.
    """

    words: str = ""
    data: str = "labelled"


VARIANTS = {
    "base": Variant(),
    "noise-8": Variant("--noise-size 8"),
    "noise-256": Variant("--noise-size 256"),
    "label-8": Variant("--label-size 8"),
    "label-256": Variant("--label-size 256"),
    "concatenation": Variant("--conditioning concatenation"),
    "plane": Variant("--conditioning plane"),
    "tenth-alone": Variant("--unlabelled-share 0", data="tenth"),
    "tenth": Variant(data="tenth"),
    "tenth-quota": Variant("--unlabelled-share 0.5", data="tenth"),
    "tenth-pseudo": Variant("--unlabelled-share 0.5 --label-loss 0.5 --pseudo-labels 0.95", data="tenth"),
    "half": Variant(data="half"),
    "any-wrong": Variant("--wrong sample"),
    "captions": Variant(data="captions"),
    "classifier": Variant("--conditioning classifier"),
}
# Question -> the variants that answer it, by what they are called in its table and plot.
QUESTIONS = {
    "noise": {
        "base": "noise 64, label 64",
        "noise-8": "noise 8, label 64",
        "noise-256": "noise 256, label 64",
        "label-8": "noise 64, label 8",
        "label-256": "noise 64, label 256",
    },
    "conditioning": {
        "base": "projection",
        "concatenation": "concatenation",
        "plane": "plane",
        "classifier": "auxiliary classifier",
    },
    "unlabelled": {
        "base": "all labelled",
        "half": "each attribute known for half of the images",
        "tenth": "a tenth labelled, the others as they come",
        "tenth-quota": "a tenth labelled, half of each batch",
        "tenth-pseudo": "a tenth labelled, half of each batch, with pseudo-labels",
        "tenth-alone": "a tenth labelled, the others left out",
    },
    "language": {
        "base": "one-hot words; a wrong label differs in one attribute",
        "any-wrong": "one-hot words; a wrong label is another image's",
        "captions": "sentences; a wrong one is another image's",
    },
}


@dataclass(frozen=True)
class QuestionOptions:
    """Train, evaluate and compare the variants that answer the article's open questions."""

    out: Path = option(Path("runs/open-questions"), "output folder; existing datasets, runs and results are reused")
    questions: tuple[str, ...] = option(tuple(QUESTIONS), "questions to answer", choices=tuple(QUESTIONS))
    leave_out: tuple[str, ...] = option((), "variants to skip", choices=tuple(VARIANTS))
    seeds: int = option(3, "runs per variant, with seeds 0, 1, …", minimum=1)
    images: int = option(30_000, "training images per run", minimum=1)
    every: int = option(5_000, "images between two checkpoints, each of which is evaluated", minimum=1)
    faces: int = option(6_000, "number of faces in the datasets", minimum=400)
    size: int = option(32, "height and width of the faces in pixels", minimum=16)
    preset: str = option("faces32", "preset of all runs")
    options: str = option("", "further options of all runs, such as '--cooldown 0'")
    count: int = option(1_000, "images generated per checkpoint for the judge, two per label", minimum=2)
    judge_only: bool = option(False, "do not train; evaluate existing runs")
    jobs: int = option(2, "runs at the same time, each on one thread", minimum=1)

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)
        if not self.variants:
            raise UserError("option-conflict", "--leave-out names every variant of --questions; leave some in")

    @property
    def variants(self) -> list[str]:
        """Return the requested variants, in the order of `VARIANTS`."""
        wanted = {name for question in self.questions for name in QUESTIONS[question]} - set(self.leave_out)
        return [name for name in VARIANTS if name in wanted]

    @property
    def runs(self) -> list[tuple[str, int]]:
        """Return (variant, seed) of every run, all variants with one seed before the next."""
        return [(name, seed) for seed in range(self.seeds) for name in self.variants]

    def run(self, name: str, seed: int) -> Path:
        """Return the directory of a run."""
        return self.out / "runs" / f"{name}-{seed}"


def train_one(asked: QuestionOptions, name: str, seed: int) -> None:
    """Train one run to its end; do nothing if it is complete."""
    variant = VARIANTS[name]
    words = ["--preset", asked.preset, "--shards", asked.out / "data" / variant.data, "--seed", seed]
    words += ["--checkpoint-every", asked.every, "--keep", 1000]
    train(asked.run(name, seed), asked.images, [*words, *shlex.split(asked.options), *shlex.split(variant.words)])


def train_all(asked: QuestionOptions) -> None:
    """Train every missing run, ``jobs`` at a time."""
    run_all([functools.partial(train_one, asked, name, seed) for name, seed in asked.runs], asked.jobs)


def judge_all(asked: QuestionOptions) -> tuple[dict[str, figures.Runs], figures.Figures]:
    """Evaluate every checkpoint of every requested complete run; store the results next to the run.

    Returns:
        (the runs of each variant, the judge's accuracy on real images by attribute).
    """
    torch.set_num_threads(1)  # two would wait for each other more than compute, where other work shares the cores
    labelled = Dataset.open(asked.out / "data" / "labelled")
    captions = any(VARIANTS[name].data == "captions" for name in asked.variants)
    examiner = judging.examiner(labelled, asked.count, captions=captions, cache=asked.out / "judge")
    runs: dict[str, dict[int, figures.Run]] = {}
    for name, seed in asked.runs:
        run = asked.run(name, seed)
        if max(judging.checkpoints(run), default=0) < asked.images:
            print(f"{run.name} is missing or incomplete: skipped", flush=True)
            continue
        kept = run.with_name(f"{run.name}.{asked.count}.json")
        known = {int(seen): row for seen, row in json.loads(kept.read_text()).items()} if kept.exists() else {}
        found = judging.examine(run, examiner, known)
        print(f"evaluated {run.name}: {len(found)} checkpoints", flush=True)
        write_json(kept, found)
        runs.setdefault(name, {})[seed] = found
    return dict(runs), examiner.own


def publish(asked: QuestionOptions, runs: dict[str, figures.Runs], own: figures.Figures) -> None:
    """Write the results and one plot per question; print one table per question."""
    versions = {"version": shards.__version__, "commit": revision(), "torch": torch.__version__}
    found = {"judge on real images": own, "count": asked.count, "runs": runs}
    write_json(asked.out / "results.json", {"benchmark": "open_questions", **versions, **found})
    for question in asked.questions:
        if variants := {title: runs[name] for name, title in QUESTIONS[question].items() if name in runs}:
            print(f"\n{question}\n")
            print("\n".join(figures.table(variants, own)))
            svg = plot.plot(f"The question of {question}", variants, own)
            write_bytes(asked.out / f"{question}.svg", svg.encode())


def main(argv: Sequence[str]) -> None:
    """Make missing datasets, train missing runs, evaluate, print."""
    asked = cli.parse(QuestionOptions, argv, command="python benchmarks/studies/open_questions.py")
    if not asked.judge_only:
        data.make(asked.out / "data", asked.faces, asked.size, {VARIANTS[name].data for name in asked.variants})
        train_all(asked)
    publish(asked, *judge_all(asked))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
