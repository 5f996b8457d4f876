"""A thousand nodes, by arithmetic: what each process's workers would read, without reading it."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from shards.stream.order import Mixed, Order, Shuffled, Windowed

RANKS, WORKERS, SHARE = 1024, 8, 2
BATCH = RANKS * SHARE
FEW = BATCH // 4 * 60


def shuffled(n: int) -> Order:
    return Shuffled(7, n)


def windowed(n: int) -> Order:
    return Windowed(7, np.append(np.arange(0, n, 1_000), n), 16)


def mixed(n: int) -> Order:
    """A quarter of each batch from the last few."""
    parts = (Shuffled(1, n - FEW), Shuffled(2, FEW, np.arange(n - FEW, n)))
    return Mixed(7, (BATCH * 3 // 4, BATCH // 4), parts)


def of_worker(rank: int, worker: int, batches: int) -> np.ndarray:
    """The positions that one worker of one rank reads: batch b is worker b mod WORKERS's, (batches, SHARE)."""
    numbers = np.arange(worker, batches, WORKERS, dtype=np.int64)
    return numbers[:, None] * BATCH + rank * SHARE + np.arange(SHARE)


@pytest.mark.parametrize("make", [shuffled, windowed, mixed])
def test_a_thousand_ranks_of_eight_workers_see_every_sample_once(make: Callable[[int], Order]) -> None:
    n, batches = 150_001, 160  # two epochs and some, and n divides by nothing
    order = make(n)
    seen = np.full(batches * BATCH, -1, np.int64)
    for rank in range(RANKS):
        places = [of_worker(rank, worker, batches) for worker in range(WORKERS)]
        assert {p.shape for p in places} == {(batches // WORKERS, SHARE)}, "every worker has as much to do"
        ids = order(np.concatenate(places).ravel())  # at once, which is quicker; no place depends on another
        seen[np.concatenate(places).ravel()] = ids
    assert np.array_equal(seen, order(np.arange(len(seen), dtype=np.int64))), "together they are the plain stream"
    if isinstance(order, Mixed):
        assert ((seen.reshape(batches, BATCH) >= n - FEW).sum(axis=1) == BATCH // 4).all()
        few = seen[seen >= n - FEW]
        assert len(np.unique(few[:FEW])) == len(np.unique(few[FEW : 2 * FEW])) == FEW
    else:
        for epoch in range(2):
            assert len(np.unique(seen[epoch * n : (epoch + 1) * n])) == n


@pytest.mark.parametrize("make", [shuffled, windowed])
def test_a_billion_samples_at_any_position(make: Callable[[int], Order]) -> None:
    n = 10**9
    order = make(n)
    order(np.arange(10, dtype=np.int64))  # a windowed epoch's table of a million shards is worked out once
    tracemalloc.start()
    begin = time.perf_counter()
    drawn = order(np.arange(5 * 10**8, 5 * 10**8 + 4_096, dtype=np.int64))
    seconds = time.perf_counter() - begin
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(np.unique(drawn)) == 4_096
    assert peak < 4_000_000
    assert seconds < 5, "a bound against O(n), not a benchmark"
