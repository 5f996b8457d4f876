"""Measure image quality over training time: the article's published loop against this project.

    python benchmarks/time_to_quality.py --out DIR [--minutes 20] [--legs published,article96] [--jobs 2]

First the pace of each leg is measured on this machine: all legs train short pieces in alternation. Then each leg trains
on the example faces in pieces that resume, the leg with the least time first, and each piece ends with an evaluation.
The clock of a leg is images seen times the median seconds per image of the first phase, so other load on the machine,
startup and evaluation do not count. (Remove OUT/pace to measure the pace again, on an idle machine.)
The published loop is stopped at ten times the time that the first other leg of its size took to reach half of the hair
colours right. Re-run the same command to resume; more minutes add to earlier results.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from quality.course import Course, course_of, first_right, table
from quality.legs import LEGS, PUBLISHED, Leg
from quality.pace import measure, pace_of

import shards
from shards.core import cli
from shards.core.atomic_io import write_json
from shards.core.cli import option
from shards.core.errors import Failure, exit_status
from shards.core.version import revision
from shards.examples.faces import Faces, faces
from shards.packing.pack import Pack, pack
from trainer.generation import image_grid
from trainer.reporting import raster
from trainer.reporting.plot import Line, Plot

_CUT_OFF = 10  # times our time to the first half of hair colours right
_SHOWN = ("fidelity/hair", "fidelity/eyes", "fid")


@dataclass(frozen=True)
class QualityOptions:
    """Train and evaluate the legs that are not complete."""

    out: Path = option(Path("runs/time-to-quality"), "output folder; existing results are reused")
    legs: tuple[str, ...] = option(tuple(LEGS), "legs to train", choices=tuple(LEGS))
    minutes: float = option(20, "time of our legs at 96 pixels; those at 32 get 0.4 of it", above=0)
    pictures: int = option(600, "images generated per checkpoint", minimum=4)
    faces: int = option(6_000, "number of faces in the datasets", minimum=64)
    seed: int = option(0, "seed of weights, noise and sample order", minimum=0)
    turns: int = option(3, "pieces per leg to measure its pace", minimum=1)
    jobs: int = option(1, "legs that train at the same time, in the untimed part", minimum=1)
    evaluate_only: bool = option(False, "do not train; print existing results")

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)

    def course(self, name: str) -> Course:
        """Return the progress of a leg."""
        return course_of(self.out / name, pace_of(self.out / "pace" / name))


def make_data(asked: QualityOptions) -> None:
    """Draw and pack the faces at the sizes that the legs need."""
    for size in sorted({LEGS[name].size for name in asked.legs}):
        drawn, packed = asked.out / "data" / f"faces{size}", asked.out / "data" / str(size)
        if not drawn.exists():
            faces(Faces(out=drawn, count=asked.faces, size=size))
        if not packed.exists():
            pack(Pack(src=drawn, out=packed, size=size, name="faces"))
            _run(asked.out / "judge.log", "-m", "trainer", "judge", packed)


def measure_pace(asked: QualityOptions) -> None:
    """Measure the pace of each leg, alone on all cores."""

    def train(name: str, run: Path, words: Sequence[object]) -> None:
        print(f"pace of {name}", flush=True)
        _train(asked, LEGS[name], run, *words)

    measure(asked.out / "pace", {name: LEGS[name] for name in asked.legs}, asked.turns, train)


class Schedule:
    """Scheduler of the legs, shared by several threads.

    Args:
        asked: which legs, and for how long.
    """

    def __init__(self, asked: QualityOptions) -> None:
        self.asked = asked
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def work(self) -> None:
        """Train pieces until no leg needs another."""
        while (name := self._take()) is not None:
            try:
                piece(self.asked, name, LEGS[name])
            finally:
                with self._lock:
                    self._busy.remove(name)

    def _take(self) -> str | None:
        with self._lock:
            courses = {name: self.asked.course(name) for name in self.asked.legs}
            free = [name for name in courses if name not in self._busy and not done(self.asked, name, courses)]
            if not free:
                return None
            name = min(free, key=lambda free: courses[free].seconds)
            self._busy.add(name)
            return name


def done(asked: QualityOptions, name: str, courses: dict[str, Course]) -> bool:
    """Return whether a leg has used its time or, for the published loop, reached its stopping point."""
    mine = courses[name]
    if not mine.evaluated:
        return False
    if name != PUBLISHED:
        return mine.seconds >= 60 * asked.minutes * LEGS[name].share
    others = [courses[n] for n in courses if n != PUBLISHED and LEGS[n].size == LEGS[PUBLISHED].size]
    reached = [seconds for course in others if (seconds := first_right(course)) is not None]
    limit = _CUT_OFF * min(reached) if reached else 60 * asked.minutes
    return mine.seconds >= limit or first_right(mine) is not None


def piece(asked: QualityOptions, name: str, leg: Leg) -> None:
    """Train a leg to its next checkpoint, and evaluate that.

    Raises:
        Failure: the trainer or the evaluation failed; its own words are in the leg's log.
    """
    run, threads = asked.out / name, ("--threads", max(1, torch.get_num_threads() // asked.jobs))
    course = asked.course(name)
    if not course.images_seen or course.images_seen in course.evaluated:  # else an interruption came in between
        target = (course.images_seen // leg.every + 1) * leg.every
        _train(asked, leg, run, "--total-images", target, *threads)
    count, metrics = ("--count", asked.pictures), ("--metrics", "fidelity,fid")
    _run(run.with_suffix(".log"), "-m", "trainer", "evaluate", run, *count, *metrics, *threads)
    course = asked.course(name)
    figures = course.evaluated[course.images_seen]
    shown = ", ".join(f"{key} {figures[key]:.3g}" for key in _SHOWN if key in figures)
    print(f"{name}: {course.images_seen:,} images, {course.seconds / 60:.1f} min: {shown}", flush=True)


def _train(asked: QualityOptions, leg: Leg, run: Path, *words: object) -> None:
    run.parent.mkdir(parents=True, exist_ok=True)
    data = asked.out / "data" / str(leg.size)
    _run(run.with_suffix(".log"), *leg.command, "--shards", data, "--run", run, "--seed", asked.seed, *words)


def _run(log: Path, *words: object) -> None:
    command = [sys.executable, *map(str, words)]
    with log.open("ab") as file:
        status = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT, check=False).returncode
    if status:
        raise Failure("process-failed", f"{' '.join(command[1:4])} exited with status {status}; see {log}")


def publish(asked: QualityOptions) -> None:
    """Print the table, draw the curves, write all results."""
    courses = {name: course for name in asked.legs if (course := asked.course(name)).evaluated}
    print("\n".join(table({name: (LEGS[name].size, course) for name, course in courses.items()})))
    versions = {"version": shards.__version__, "commit": revision(), "torch": torch.__version__}
    circumstances = {"threads": torch.get_num_threads(), "pictures": asked.pictures, "seed": asked.seed}
    found = {name: course.to_json() for name, course in courses.items()}
    write_json(asked.out / "results.json", {"benchmark": "time_to_quality", **versions, **circumstances, "legs": found})
    for size in sorted({LEGS[name].size for name in courses}):
        names = [name for name in courses if LEGS[name].size == size]
        drawn = [plot for key in _SHOWN if (plot := _plot(f"{key}, {size} px", names, courses, key)).lines]
        image_grid.save(raster.draw_plots(drawn, names, columns=len(drawn)), asked.out / f"{size}.png")


def _plot(title: str, names: Sequence[str], courses: dict[str, Course], key: str) -> Plot:
    """Return one metric of some legs where it was measured: a judge may have been too weak for it."""
    lines = []
    for number, name in enumerate(names):
        course = courses[name]
        points = [(course.seconds_at(n) / 60, found[key]) for n, found in course.evaluated.items() if key in found]
        lines += [Line(name, number, [x for x, _ in points], [y for _, y in points])] if points else []
    return Plot(title, "minutes of training", lines)


def main(argv: Sequence[str]) -> None:
    """Train and evaluate what is missing, and print the results."""
    asked = cli.parse(QualityOptions, argv, command="python benchmarks/time_to_quality.py")
    if not asked.evaluate_only:
        asked.out.mkdir(parents=True, exist_ok=True)
        make_data(asked)
        measure_pace(asked)
        schedule = Schedule(asked)
        with ThreadPoolExecutor(asked.jobs) as pool:
            for worker in [pool.submit(schedule.work) for _ in range(asked.jobs)]:
                worker.result()
    publish(asked)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
