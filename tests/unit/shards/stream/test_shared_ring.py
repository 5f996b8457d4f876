"""Memory that workers and trainer share: what crosses in it arrives, stays, and holds nobody up."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from unit.shards.stream.test_stream import assert_equal

from shards.dataset.dataset import Dataset
from shards.stream.loader import batches
from shards.stream.shared_ring import SharedRing
from shards.stream.stream import Stream
from support.launching import ROOT, make_dataset

METHODS = sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods()))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("ring"), count=30)


@pytest.fixture(params=METHODS)
def start_method(request: pytest.FixtureRequest) -> Iterator[str]:
    """How processes are started, for the length of a test."""
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method(request.param, force=True)
    yield request.param
    multiprocessing.set_start_method(before, force=True)


def write(ring: SharedRing, number: int) -> None:
    ring[number][:] = number


@pytest.mark.usefixtures("start_method")
def test_what_a_process_writes_is_seen_here() -> None:
    ring = SharedRing(3, (2, 4, 4, 3))
    for number in range(4):
        process = multiprocessing.Process(target=write, args=(ring, number))
        process.start()
        process.join()
    assert [np.unique(ring[number]).tolist() for number in (1, 2, 3)] == [[1], [2], [3]]
    assert ring[0] is not ring[3] and np.shares_memory(ring[0], ring[3])


def test_its_memory_is_given_back() -> None:
    descriptors = len(list(Path("/dev/fd").iterdir()))
    for _ in range(20):
        SharedRing(2, (8, 64, 64, 3))[0][:] = 1
    gc.collect()
    assert len(list(Path("/dev/fd").iterdir())) <= descriptors


@pytest.mark.usefixtures("start_method")
def test_batches_that_are_kept_stay_as_they_were(dataset: Dataset) -> None:
    """More batches than the ring has slots, all kept, and none of them overwritten by a later one."""
    stream = Stream(dataset, 6, 0)
    kept = list(islice(batches(stream, 3, workers=2), 30))
    for number, batch in enumerate(kept, 3):
        assert_equal(batch, stream[number])


def test_a_program_that_leaves_in_the_middle_of_a_stream_ends(dataset: Dataset, tmp_path: Path) -> None:
    """Workers ignore SIGTERM, by which Python ends its children when it exits."""
    program = f"""
        from shards.dataset.dataset import Dataset
        from shards.stream.loader import batches
        from shards.stream.stream import Stream
        stream = batches(Stream(Dataset.open({str(dataset.path)!r}), 6, 0), 0, workers=2)
        print(next(stream).images.shape[0])
    """
    (tmp_path / "leave.py").write_text(textwrap.dedent(program))
    command = [sys.executable, str(tmp_path / "leave.py")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=20, env=environment, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "6\n", "")
