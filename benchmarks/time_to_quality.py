"""Measure image quality over training time: this project, the article's published loop, and other methods.

    python benchmarks/time_to_quality.py --out DIR [--minutes 20] [--legs published,article96] [--jobs 2]

At 32 and 64 pixels the other methods are flow matching (`other_methods/flow_matching.py`) and, if --legs names it, the
package lightweight-gan, which is installed apart (`other_methods/lightweight.py` says how, and the error when it is
missing).
The article's networks exist at 96 pixels only.

First the pace of each leg is measured on this machine: all legs train short pieces in alternation. Then each leg trains
on the example faces in pieces that resume, the leg with the least time first, and each piece ends with an evaluation.
Legs whose learning rates fall towards the end are one piece; all their checkpoints are evaluated afterwards, and with
more minutes they go on from the end, where the rates rise again. (Results of such legs from before this was so cannot
be continued: remove their folders.)
The clock of a leg is images seen times the median seconds per image of the first phase, so other load on the machine,
startup and evaluation do not count. (Remove OUT/pace to measure the pace again, on an idle machine; on a busy one, use
--clock processor.) The time to generate an image is measured apart, at the end.
The published loop is stopped at ten times the time that the first other leg of its size took to reach half of the hair
colours right. Re-run the same command to resume; more minutes add to earlier results.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from other_methods import lightweight
from quality import command
from quality.course import Course, course_of, first_right, table
from quality.legs import LEGS, PUBLISHED, Leg
from quality.pace import CLOCKS, ProcessorTime, measure, pace_of
from quality.sampling import seconds_per_image

import shards
from shards.core import cli
from shards.core.atomic_io import write_json
from shards.core.cli import option, seed_option
from shards.core.errors import exit_status
from shards.core.version import revision
from shards.examples.faces import Faces, faces
from shards.packing.pack import Pack, pack
from trainer.evaluation.evaluation_networks import FEATURES
from trainer.generation import image_grid
from trainer.reporting import raster
from trainer.reporting.plot import Line, Plot

_CUT_OFF = 10  # times our time to the first half of hair colours right
_SHOWN = ("fidelity/hair", "fidelity/eyes", "fid", "precision")
_FEATURES = tuple(name for name in FEATURES if name != "inception")  # which needs a file of weights
_DEFAULT = tuple(name for name, leg in LEGS.items() if not leg.installed_apart)


@dataclass(frozen=True)
class QualityOptions:
    """Train and evaluate the legs that are not complete."""

    out: Path = option(Path("runs/time-to-quality"), "output folder; existing results are reused")
    legs: tuple[str, ...] = option(_DEFAULT, "legs to train (default: all but lightweight-gan)", choices=tuple(LEGS))
    minutes: float = option(20, "time of each leg at 64 and 96 pixels; those at 32 get 0.4 of it", above=0)
    count: int = option(600, "images generated per checkpoint", minimum=4)
    faces: int = option(6_000, "number of faces in the datasets", minimum=64)
    seed: int = seed_option("seed of weights, noise and sample order")
    turns: int = option(3, "pieces per leg to measure its pace", minimum=1)
    jobs: int = option(1, "legs that train at the same time, in the untimed part", minimum=1)
    threads: int = option(0, "threads of each leg (default: divide the cores among --jobs)", minimum=0)
    clock: str = option("wall", "clock of the pace", choices=CLOCKS)
    features: str = option("lite2", "network whose features distances use", choices=_FEATURES)
    evaluate_only: bool = option(False, "do not train; print existing results")

    def __post_init__(self) -> None:
        """Validate the values."""
        cli.validate(self)

    def course(self, name: str) -> Course:
        """Return the progress of a leg."""
        run = self.out / name
        seen = max(LEGS[name].saved(run), default=0)
        return course_of(run, seen, pace_of(self.out / "pace" / name, self.clock))

    def seconds(self, leg: Leg) -> float:
        """Return the time of a leg."""
        return 60 * self.minutes * leg.share


def make_data(options: QualityOptions) -> None:
    """Draw and pack the faces at the sizes that the legs need."""
    for size in sorted({LEGS[name].size for name in options.legs}):
        drawn, packed = options.out / "data" / f"faces{size}", options.out / "data" / str(size)
        if not drawn.exists():
            faces(Faces(out=drawn, count=options.faces, size=size))
        if not packed.exists():
            pack(Pack(src=drawn, out=packed, size=size, name="faces"))
            command.run(options.out / "judge.log", "-m", "trainer", "judge", packed)


def measure_pace(options: QualityOptions) -> None:
    """Measure the pace of each leg, alone on all cores."""

    def train(name: str, run: Path, words: Sequence[object]) -> None:
        print(f"pace of {name}", flush=True)
        threads = ("--threads", options.threads) if options.threads else ()
        _train(options, LEGS[name], run, *words, *threads, watch=ProcessorTime(run).watch)

    measure(options.out / "pace", {name: LEGS[name].row for name in options.legs}, options.turns, train)


class Schedule:
    """Scheduler of the legs, shared by several threads.

    Args:
        options: which legs, and for how long.
    """

    def __init__(self, options: QualityOptions) -> None:
        self.options = options
        self._busy: set[str] = set()
        self._lock = threading.Lock()

    def work(self) -> None:
        """Train pieces until no leg needs another."""
        while (name := self._take()) is not None:
            try:
                piece(self.options, name, LEGS[name])
            finally:
                with self._lock:
                    self._busy.remove(name)

    def _take(self) -> str | None:
        with self._lock:
            courses = {name: self.options.course(name) for name in self.options.legs}
            free = [name for name in courses if name not in self._busy and not done(self.options, name, courses)]
            if not free:
                return None
            name = min(free, key=lambda free: courses[free].seconds)
            self._busy.add(name)
            return name


def done(options: QualityOptions, name: str, courses: dict[str, Course]) -> bool:
    """Return whether a leg has used its time or, for the published loop, reached its stopping point."""
    mine = courses[name]
    if mine.images_seen not in mine.evaluated:
        return False
    if name != PUBLISHED:
        leg, seconds = LEGS[name], options.seconds(LEGS[name])
        return mine.images_seen >= leg.next_end(0, seconds / mine.pace) if leg.whole else mine.seconds >= seconds
    others = [courses[n] for n in courses if n != PUBLISHED and LEGS[n].size == LEGS[PUBLISHED].size]
    reached = [seconds for course in others if (seconds := first_right(course)) is not None]
    limit = _CUT_OFF * min(reached) if reached else 60 * options.minutes
    return mine.seconds >= limit or first_right(mine) is not None


def piece(options: QualityOptions, name: str, leg: Leg) -> None:
    """Train a leg to the end of its next piece, and evaluate what that saved.

    Raises:
        Failure: the trainer or the evaluation failed; its own words are in the leg's log.
    """
    run = options.out / name
    threads = ("--threads", options.threads or max(1, torch.get_num_threads() // options.jobs))
    if not _not_evaluated(options, name, leg):  # else an interruption came in between
        course = options.course(name)
        end = leg.next_end(course.images_seen, options.seconds(leg) / course.pace)
        _train(options, leg, run, "--total-images", end, *leg.saving, *threads)
    words = ("--count", options.count, "--features", options.features, *threads)
    for seen in _not_evaluated(options, name, leg):
        which = () if leg.other else ("--checkpoint", seen)
        command.run(run.with_suffix(".log"), *leg.evaluation, run, *which, *words)
        course = options.course(name)
        figures = course.evaluated[seen]
        shown = ", ".join(f"{key} {figures[key]:.3g}" for key in _SHOWN if key in figures)
        print(f"{name}: {seen:,} images, {course.seconds_at(seen) / 60:.1f} min: {shown}", flush=True)


def _not_evaluated(options: QualityOptions, name: str, leg: Leg) -> list[int]:
    evaluated = options.course(name).evaluated
    return [seen for seen in leg.saved(options.out / name) if seen not in evaluated]


def _train(options: QualityOptions, leg: Leg, run: Path, *words: object, watch: command.Watch | None = None) -> None:
    data = options.out / "data" / str(leg.size)
    log = run.with_suffix(".log")
    command.run(log, *leg.command, "--shards", data, "--run", run, "--seed", options.seed, *words, watch=watch)


def publish(options: QualityOptions) -> None:
    """Print the table, draw the curves, write all results."""
    courses = {name: course for name in options.legs if (course := options.course(name)).evaluated}
    sizes = {name: (LEGS[name].size, course) for name, course in courses.items()}
    data = {name: options.out / "data" / str(LEGS[name].size) for name in courses}
    sampling = {name: seconds_per_image(LEGS[name], options.out / name, data[name]) for name in courses}
    print("\n".join(table(sizes, sampling)))
    versions = {"version": shards.__version__, "commit": revision(), "torch": torch.__version__}
    threads = options.threads or torch.get_num_threads()
    kept = ("clock", "features", "count", "seed")
    circumstances = {"threads": threads, **{key: getattr(options, key) for key in kept}}
    found = {
        name: course.to_json() | {"seconds_to_generate_an_image": sampling[name]} for name, course in courses.items()
    }
    write_json(
        options.out / "results.json", {"benchmark": "time_to_quality", **versions, **circumstances, "legs": found}
    )
    for size in sorted({LEGS[name].size for name in courses}):
        names = [name for name in courses if LEGS[name].size == size]
        drawn = [plot for key in _SHOWN if (plot := _plot(f"{key}, {size} px", names, courses, key)).lines]
        image_grid.save(raster.draw_plots(drawn, names, columns=len(drawn)), options.out / f"{size}.png")


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
    options = cli.parse(QualityOptions, argv, command="python benchmarks/time_to_quality.py")
    if not options.evaluate_only:
        if any(LEGS[name].installed_apart for name in options.legs):
            lightweight.require_package()
        options.out.mkdir(parents=True, exist_ok=True)
        make_data(options)
        measure_pace(options)
        schedule = Schedule(options)
        with ThreadPoolExecutor(options.jobs) as pool:
            for worker in [pool.submit(schedule.work) for _ in range(options.jobs)]:
                worker.result()
    publish(options)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
