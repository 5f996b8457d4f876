"""Metrics of runs, aggregated over the seeds of a variant, and as a Markdown table."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

Figures = dict[str, float]  # by name: "right: hair", …, "variety"
RIGHT, OTHERWISE, VARIETY = "right", "right, asked in other sentences", "variety"

Run = Mapping[int, Figures]  # images seen -> figures
Runs = Mapping[int, Run]  # seed -> run


class Point(NamedTuple):
    """One metric over the seeds of a variant."""

    low: float
    median: float
    high: float


def common(runs: Iterable[Run]) -> list[int]:
    """Return the images seen at the checkpoints that all runs have, in order."""
    shared = [set(run) for run in runs]
    return sorted(set.intersection(*shared)) if shared else []


def over_seeds(runs: Runs, seen: int, key: str, scale: float = 1.0) -> Point:
    """Return the minimum, median and maximum of a metric at a checkpoint."""
    values = sorted(scale * run[seen][key] for run in runs.values())
    return Point(values[0], statistics.median(values), values[-1])


def table(variants: Mapping[str, Runs], own: Figures) -> Iterator[str]:
    """Return the lines of a table: one row per variant, at the last checkpoint that all runs of all variants have.

    Args:
        variants: the runs of each, at least one of one, by its title.
        own: the judge's share right of held-out real images, by attribute.
    """
    keys = keys_of(variants)
    last = common(run for runs in variants.values() for run in runs.values())[-1]
    yield _row(f"{last:,} images seen", "seeds", *map(_head, keys))
    yield "|---" * (len(keys) + 2) + "|"
    for title, runs in variants.items():
        there = [key for key in keys if all(key in run[last] for run in runs.values())]
        yield _row(title, len(runs), *(_cell(over_seeds(runs, last, k), k) if k in there else "–" for k in keys))
    real = ("1" if key == VARIETY else f"{100 * own[attribute_of(key)]:.1f}" for key in keys)
    yield _row("*real images*", "", *real)


def _row(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _cell(point: Point, key: str) -> str:
    scale, digits = (1, 2) if key == VARIETY else (100, 1)
    low, median, high = (f"{scale * value:.{digits}f}" for value in point)
    return f"{median} ({low}–{high})"


def _head(key: str) -> str:
    if key == VARIETY:
        return VARIETY
    name = attribute_of(key)
    return f"{name}, in other sentences, %" if key.startswith(OTHERWISE) else f"{name}, %"


def attribute_of(key: str) -> str:
    """Return the part of a metric's name after its kind."""
    return key.split(": ", 1)[1]


def keys_of(variants: Mapping[str, Runs]) -> list[str]:
    """Return the metrics that any run has, in the order of first appearance, variety last."""
    rows = (figures for runs in variants.values() for run in runs.values() for figures in run.values())
    found = dict.fromkeys(key for figures in rows for key in figures)
    return [*(key for key in found if key != VARIETY), VARIETY]
