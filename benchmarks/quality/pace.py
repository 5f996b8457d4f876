"""Measure the pace of each leg with alternating pieces, so that a slow phase of the machine affects all legs."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from quality.legs import Leg
from trainer.run import metrics_file

_ROWS = 4  # lines of log of a piece; the first, in which everything is warmed up, does not count


def rows_of(run: Path) -> list[float]:
    """Return the seconds per image of each log line of a leg, without warm-up."""
    log = metrics_file.read(run / "metrics.jsonl")
    return [1 / row["speed/images_per_second"] for number, row in enumerate(log) if number % _ROWS]


def measure(
    folder: Path, legs: dict[str, Leg], rounds: int, train: Callable[[str, Path, Sequence[object]], None]
) -> None:
    """Train one piece per turn of each leg that has had fewer turns.

    Args:
        folder: gets a run a leg, for its log alone.
        train: trains the leg of a name in a run, by further options.
    """
    for turn in range(1, rounds + 1):
        for name, leg in legs.items():
            if len(rows_of(folder / name)) < turn * (_ROWS - 1):
                images = turn * _ROWS * leg.row
                train(name, folder / name, ("--total-images", images, "--log-every", leg.row))


def pace_of(run: Path) -> float:
    """Return the median seconds per image."""
    return statistics.median(rows_of(run))
