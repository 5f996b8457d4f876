"""The article's four open questions, each answered by runs of one preset on the example's faces.

    python benchmarks/studies/open_questions.py --out DIR [--questions noise,language] [--seeds 3]
        [--images 30000] [--jobs 2]

Makes the data sets, trains every variant under every seed (all variants under seed 0 first), and lets a classifier that
was trained on real pictures judge every checkpoint. What is there already is used again, so the same command goes on
after an interruption, and more seeds or images add to what was measured.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

# Run as a file, Python looks for modules beside the file and not in the repository.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from questions import data, figures, judging, plot

import shards
from shards.core import cli
from shards.core.atomic_io import write_bytes, write_json
from shards.core.cli import option
from shards.core.errors import Failure, UserError, exit_status
from shards.core.version import revision
from shards.dataset.dataset import Dataset
from trainer.run.checkpoint import find

MAIN = Path(__file__).resolve().parents[2] / "trainer" / "main.py"


@dataclass(frozen=True)
class Variant:
    """One way of doing it: what the runs that try it have in common.

    Attributes:
        words: options, added to those that all runs have.
        data: the data set to train on, a name of `questions.data.DATA_SETS`.
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
        "half": "each attribute known of half of the pictures",
        "tenth": "a tenth labelled, the others as they come",
        "tenth-quota": "a tenth labelled, half of each batch",
        "tenth-alone": "a tenth labelled, the others left out",
    },
    "language": {
        "base": "one-hot words; a wrong label differs in one attribute",
        "any-wrong": "one-hot words; a wrong label is another picture's",
        "captions": "sentences; a wrong one is another picture's",
    },
}


@dataclass(frozen=True)
class QuestionOptions:
    """Train, judge and compare the variants that answer the article's open questions."""

    out: Path = option(Path("runs/open-questions"), "where data sets, runs and figures go; what is there is used again")
    questions: tuple[str, ...] = option(tuple(QUESTIONS), "which questions", choices=tuple(QUESTIONS))
    leave_out: tuple[str, ...] = option((), "variants not to run", choices=tuple(VARIANTS))
    seeds: int = option(3, "runs of each variant, by seeds 0, 1, …", minimum=1)
    images: int = option(30_000, "images of each run", minimum=1)
    every: int = option(5_000, "images between two checkpoints, each of which is judged", minimum=1)
    faces: int = option(6_000, "faces to draw for the data sets", minimum=400)
    size: int = option(32, "their side in pixels", minimum=16)
    preset: str = option("faces32", "what the runs have in common")
    pictures: int = option(1_000, "pictures drawn of each checkpoint for the judge, two a label", minimum=2)
    judge_only: bool = option(False, "train nothing; judge what is there")
    jobs: int = option(2, "runs at a time, each on one thread", minimum=1)

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        cli.validate(self)
        if not self.variants:
            raise UserError("--leave-out names every variant of --questions; leave some in")

    @property
    def variants(self) -> list[str]:
        """What is asked for, in the order of `VARIANTS`."""
        wanted = {name for question in self.questions for name in QUESTIONS[question]} - set(self.leave_out)
        return [name for name in VARIANTS if name in wanted]

    @property
    def runs(self) -> list[tuple[str, int]]:
        """(variant, seed) of every run, all variants under one seed before the next."""
        return [(name, seed) for seed in range(self.seeds) for name in self.variants]

    def run(self, name: str, seed: int) -> Path:
        """Where a run lives."""
        return self.out / "runs" / f"{name}-{seed}"


def train(asked: QuestionOptions, name: str, seed: int) -> None:
    """One run, to its end; nothing if it has come that far.

    Raises:
        Failure: the trainer failed; its own words are in the run's log.
    """
    run, variant = asked.run(name, seed), VARIANTS[name]
    if images_seen(run) >= asked.images:
        return
    print(f"training {run.name}", flush=True)
    words = [
        *(
            "--preset",
            asked.preset,
            "--family",
            "residual",
            "--shards",
            asked.out / "data" / variant.data,
            "--run",
            run,
            "--seed",
            seed,
        ),
        *("--total-images", asked.images, "--checkpoint-every", asked.every, "--keep", 1000),
        *("--grid-every", asked.images, "--threads", 1, "--workers", 0, "--log-with", "none"),
        *shlex.split(variant.words),
    ]
    log = run.with_suffix(".log")
    with log.open("ab") as file:
        command = [sys.executable, str(MAIN), *map(str, words)]
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise Failure(f"{run.name}: the trainer ended with status {status}; see {log}")


def images_seen(run: Path) -> int:
    """How far a run's newest checkpoint is; 0 without one."""
    try:
        return find(run).images_seen
    except UserError:
        return 0


def train_all(asked: QuestionOptions) -> None:
    """Every run that is missing, some at a time."""
    (asked.out / "runs").mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(asked.jobs) as pool:
        started = [pool.submit(train, asked, name, seed) for name, seed in asked.runs]
        try:
            for run in started:
                run.result()
        finally:
            pool.shutdown(cancel_futures=True)


def judge_all(asked: QuestionOptions) -> tuple[dict[str, figures.Runs], figures.Figures]:
    """Have every checkpoint of every run that was asked for and is done judged; its figures are kept beside the run.

    Returns:
        (the runs of each variant, the judge's share right of real pictures by attribute).
    """
    torch.set_num_threads(1)  # two would wait for each other more than compute, where other work shares the cores
    labelled = Dataset.open(asked.out / "data" / "labelled")
    captions = any(VARIANTS[name].data == "captions" for name in asked.variants)
    examiner = judging.examiner(labelled, asked.pictures, captions=captions, cache=asked.out / "judge")
    runs: dict[str, dict[int, figures.Run]] = {}
    for name, seed in asked.runs:
        run = asked.run(name, seed)
        if images_seen(run) < asked.images:
            print(f"{run.name} is not there, or has not come that far: left out", flush=True)
            continue
        kept = run.with_name(f"{run.name}.{asked.pictures}.json")
        known = {int(seen): row for seen, row in json.loads(kept.read_text()).items()} if kept.exists() else {}
        found = judging.examine(run, examiner, known)
        print(f"judged {run.name}: {len(found)} checkpoints", flush=True)
        write_json(kept, found)
        runs.setdefault(name, {})[seed] = found
    return dict(runs), examiner.own


def publish(asked: QuestionOptions, runs: dict[str, figures.Runs], own: figures.Figures) -> None:
    """Write the figures, and a plot a question; print a table a question."""
    versions = {"version": shards.__version__, "commit": revision(), "torch": torch.__version__}
    found = {"judge on real pictures": own, "pictures": asked.pictures, "runs": runs}
    write_json(asked.out / "results.json", {"benchmark": "open_questions", **versions, **found})
    for question in asked.questions:
        if variants := {title: runs[name] for name, title in QUESTIONS[question].items() if name in runs}:
            print(f"\n{question}\n")
            print("\n".join(figures.table(variants, own)))
            svg = plot.plot(f"The question of {question}", variants, own)
            write_bytes(asked.out / f"{question}.svg", svg.encode())


def main(argv: Sequence[str]) -> None:
    """Make what is missing, train what is missing, judge, print."""
    asked = cli.parse(QuestionOptions, argv, command="python benchmarks/studies/open_questions.py")
    if not asked.judge_only:
        data.make(asked.out / "data", asked.faces, asked.size, {VARIANTS[name].data for name in asked.variants})
        train_all(asked)
    publish(asked, *judge_all(asked))


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
