"""The article's four open questions, each answered by runs of one preset on the example's faces.

    python benchmarks/open_questions.py --out DIR [--questions noise,language] [--seeds 3] [--images 30000] [--jobs 2]

Makes the data sets, trains every variant under every seed (all variants under seed 0 first), and lets a classifier that
was trained on real pictures judge every checkpoint. What is there already is used again, so the same command goes on
after an interruption, and more seeds or images add to what was measured.
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

# Run as a file, Python looks for modules beside the file and not in the repository.
ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import question_data

from shards import options
from shards.errors import Failure, UserError, exit_status
from shards.options import option
from trainer.checkpoint import find


@dataclass(frozen=True)
class Variant:
    """One way of doing it: what the runs that try it have in common.

    Attributes:
        says: what is different, for tables and plots.
        words: options that are added to those of all runs.
        data: the data set to train on, a name of `question_data.DATA_SETS`.
    """

    says: str
    words: str = ""
    data: str = "labelled"


BASE = "base"
VARIANTS: dict[str, Variant] = {
    BASE: Variant("preset faces32"),
    "noise-8": Variant("noise of 8 numbers", "--noise-size 8"),
    "noise-256": Variant("noise of 256 numbers", "--noise-size 256"),
    "label-8": Variant("label embedding of 8 numbers", "--label-size 8"),
    "label-256": Variant("label embedding of 256 numbers", "--label-size 256"),
    "concatenation": Variant("concatenation", "--conditioning concatenation"),
    "plane": Variant("plane", "--conditioning plane"),
    "tenth-alone": Variant("a tenth labelled, the rest left out", "--unlabelled-share 0", data="tenth"),
    "tenth": Variant("a tenth labelled, the rest kept as it comes", data="tenth"),
    "tenth-quota": Variant("a tenth labelled, half of each batch", "--unlabelled-share 0.5", data="tenth"),
    "half": Variant("each attribute known of half of the pictures", data="half"),
    "any-wrong": Variant("one-hot words, wrong labels of other pictures", "--wrong sample"),
    "captions": Variant("sentences through a text encoder", data="captions"),
    "classifier": Variant("auxiliary classifier", "--conditioning classifier"),
}
QUESTIONS: dict[str, tuple[str, ...]] = {
    "noise": (BASE, "noise-8", "noise-256", "label-8", "label-256"),
    "conditioning": (BASE, "concatenation", "plane", "classifier"),
    "unlabelled": (BASE, "tenth-alone", "tenth", "tenth-quota", "half"),
    "language": (BASE, "any-wrong", "captions"),
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
    jobs: int = option(2, "runs at a time, each on one thread", minimum=1)

    def __post_init__(self) -> None:
        """Hold the values against their bounds."""
        options.validate(self)

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
        *("--preset", asked.preset, "--shards", asked.out / "data" / variant.data, "--run", run, "--seed", seed),
        *("--total-images", asked.images, "--checkpoint-every", asked.every, "--keep", 1000),
        *("--grid-every", asked.images, "--threads", 1, "--workers", 0, "--log-with", "none"),
        *shlex.split(variant.words),
    ]
    log = run.with_suffix(".log")
    with log.open("ab") as file:
        command = [sys.executable, str(ROOT / "trainer" / "main.py"), *map(str, words)]
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


def main(argv: Sequence[str]) -> None:
    """Make what is missing, train what is missing, judge, print."""
    asked = options.parse(QuestionOptions, argv, command="python benchmarks/open_questions.py")
    question_data.make(asked.out / "data", asked.faces, asked.size, {VARIANTS[name].data for name in asked.variants})
    train_all(asked)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
