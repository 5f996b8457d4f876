"""Measure the pace of each leg with alternating pieces, so that a slow phase of the machine affects all legs.

The pace is seconds per image of one of two clocks: the wall's, for an idle machine, or the processor time of the leg's
processes, which other load disturbs little.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil

from shards.core.errors import UserError
from trainer.metric_names import CLOCK
from trainer.run import metrics_file

CLOCKS = ("wall", "processor")
_LOG, _PROCESSOR_LOG = "metrics.jsonl", "processor.jsonl"
_PER_IMAGE = "processor/seconds_per_image"
_ROWS = 4  # lines of log of a piece; the first, in which everything is warmed up, does not count


class ProcessorTime:
    """Reads the processor time of a leg's processes whenever its log has a new line; later lines are compared with it.

    Args:
        run: the leg's run; gets a file of the seconds per image of each line but the first.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self._lines = len(metrics_file.read(run / _LOG))
        self._before: tuple[float, float] | None = None

    def watch(self, process: psutil.Process) -> None:
        """Look once; call it often while the process lives."""
        lines = metrics_file.read(self.run / _LOG)
        if len(lines) <= self._lines:
            return
        try:
            now = lines[-1][CLOCK], _processor_seconds(process)
        except psutil.NoSuchProcess:
            return
        if self._before is not None:
            per_image = (now[1] - self._before[1]) / (now[0] - self._before[0])
            with metrics_file.MetricsFile(self.run / _PROCESSOR_LOG) as log:
                log.write(int(now[0]), {_PER_IMAGE: per_image})
        self._lines, self._before = len(lines), now


def _processor_seconds(process: psutil.Process) -> float:
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


def rows_of(run: Path, clock: str = "wall") -> list[float]:
    """Return the seconds per image of each log line of a leg, without warm-up."""
    if clock == "processor":
        return [row[_PER_IMAGE] for row in metrics_file.read(run / _PROCESSOR_LOG)]
    log = metrics_file.read(run / _LOG)
    return [1 / row["speed/images_per_second"] for number, row in enumerate(log) if number % _ROWS]


def measure(
    folder: Path, rows: Mapping[str, int], rounds: int, train: Callable[[str, Path, Sequence[object]], None]
) -> None:
    """Train one piece per turn of each leg that has had fewer turns.

    Args:
        folder: gets one run per leg, for its log alone.
        rows: images of a line of log of each leg, by its name.
        train: trains the leg of a name in a run, by further options.
    """
    for turn in range(1, rounds + 1):
        for name, row in rows.items():
            if len(rows_of(folder / name)) < turn * (_ROWS - 1):
                images = turn * _ROWS * row
                train(name, folder / name, ("--total-images", images, "--log-every", row))


def pace_of(run: Path, clock: str = "wall") -> float:
    """Return the median seconds per image.

    Raises:
        UserError: it was not measured by this clock.
    """
    if not (rows := rows_of(run, clock)):
        raise UserError("pace-missing", f"{run} has no pace by --clock {clock}; remove its folder to measure it again")
    return statistics.median(rows)
