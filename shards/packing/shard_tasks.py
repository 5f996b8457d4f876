"""Which images each shard gets, and the processes that write the shards of one job."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shards.core import process_pool, rng
from shards.core.permutation import permute
from shards.packing import plan, shard_writer
from shards.sources.item import Source


class ShardTasks:
    """The shards of all parts in order; the items of each part are shuffled by seed.

    Args:
        held_out: bool (N,), the items of the validation part.
        build: the build folder.
    """

    def __init__(
        self,
        seed: int,
        source: Source,
        recipe: shard_writer.Recipe,
        held_out: np.ndarray,
        made: plan.Plan,
        build: Path,
    ) -> None:
        self.items, self.recipe, self.made, self.build = source.items, recipe, made, build
        self.places = list(made.every())  # part and file name of each shard
        self._first = {part.split: i for i, (part, _) in reversed(list(enumerate(self.places)))}
        self._shuffled: dict[str, np.ndarray] = {}
        for part in made.parts:
            rows = np.flatnonzero(held_out if part.split == "validation" else ~held_out)
            key = rng.key(seed, "pack" if part.split == "train" else "pack validation")
            self._shuffled[part.split] = rows[permute(key, len(rows), np.arange(len(rows)))]

    def __len__(self) -> int:
        return len(self.places)

    def is_finished(self, i: int) -> bool:
        """Return whether shard i has been written."""
        return plan.record(self.build, *self.places[i]) is not None

    def count(self, i: int) -> int:
        """Return the number of items in shard i."""
        return len(self._rows(i)[1])

    def task(self, i: int) -> shard_writer.Task:
        """Return the task that writes shard i."""
        part, name = self.places[i]
        start, rows = self._rows(i)
        items = tuple(self.items[row] for row in rows)
        data, records = part.below(self.build / "data"), part.below(self.build / "records")
        return shard_writer.Task(self.recipe, data, records, name, start, items)

    def _rows(self, i: int) -> tuple[int, np.ndarray]:
        """Return the position of shard i's first item in its part, and the numbers of its items."""
        part, size = self.places[i][0], self.made.per_shard
        start = (i - self._first[part.split]) * size
        return start, self._shuffled[part.split][start : start + size]


def write_unfinished(tasks: ShardTasks, job: tuple[int, int], processes: int) -> None:
    """Write the unfinished shards of job I of N.

    Args:
        job: (I, N).
        processes: how many write at the same time.

    Raises:
        Failure: a disk error, or a killed worker.
    """
    import webdataset.writer  # noqa: F401 - once, before the workers are forked

    number, jobs = job
    mine = range(number - 1, len(tasks), jobs)
    unfinished = [i for i in mine if not tasks.is_finished(i)]
    finished = len(mine) - len(unfinished)
    if finished:
        print(f"resuming: {finished} of {len(mine)} shards are already finished", file=sys.stderr)
    names: dict[plan.Part, set[str]] = {part: set() for part in tasks.made.parts}
    for i in mine:
        part, name = tasks.places[i]
        names[part].add(name)
    _sweep(tasks.build, names)
    total = sum(map(tasks.count, mine))
    written = process_pool.run(
        shard_writer.write_shard,
        map(tasks.task, unfinished),
        workers=max(1, min(processes, len(unfinished))),
        total=total,
        doing="packing",
        finished=total - sum(map(tasks.count, unfinished)),
    )
    try:
        for _ in written:
            finished += 1
    except KeyboardInterrupt:
        kept = f"{finished} of {len(mine)} shards are finished and kept in {tasks.build}"
        print(f"\nstopped: {kept}; re-run the same command to resume", file=sys.stderr)
        raise
    finally:
        written.close()
        _sweep(tasks.build, names)


def _sweep(build: Path, names: Mapping[plan.Part, set[str]]) -> None:
    """Remove temporary files of this job's shards; other jobs may be writing theirs."""
    for part, of_part in names.items():
        plan.sweep(build, part, of_part)
