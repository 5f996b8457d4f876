"""How quick each leg is: pieces by turns, so that a machine that is slow for a while is so for all."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from quality.legs import Leg
from trainer.run import metrics_file

_ROWS = 4  # lines of log of a piece; the first, in which everything is warmed up, does not count


def rows_of(run: Path) -> list[float]:
    """Seconds that an image took, of each line of a leg's log that counts."""
    log = metrics_file.read(run / "metrics.jsonl")
    return [1 / row["speed/images_per_second"] for number, row in enumerate(log) if number % _ROWS]


def measure(
    folder: Path, legs: dict[str, Leg], rounds: int, train: Callable[[str, Path, Sequence[object]], None]
) -> None:
    """Let each leg that has not had so many turns train a piece a turn.

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
    """Median seconds an image."""
    return statistics.median(rows_of(run))
