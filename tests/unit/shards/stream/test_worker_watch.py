"""Data workers that are killed or stopped while the trainer reads their batches."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import psutil
import pytest

from shards.stream import worker_watch
from shards.stream.decoded_cache import plan_cache
from shards.stream.loader import batches
from shards.stream.stream import Stream
from support.launching import make_dataset


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    return Stream(make_dataset(tmp_path / "data"), 6, 0)


def workers() -> list[psutil.Process]:
    return [psutil.Process(child.pid) for child in multiprocessing.active_children()]


def assert_same_images(found: list, stream: Stream, start: int) -> None:
    for number, batch in enumerate(found, start):
        assert batch.images.equal(stream[number].images) and batch.labels.equal(stream[number].labels), number


@pytest.mark.parametrize("count", [1, 2])
def test_batches_go_on_where_a_killed_worker_left_off(stream: Stream, count: int) -> None:
    incoming = batches(stream, 2, workers=count)
    first = next(incoming)
    workers()[0].kill()
    found = [first, *islice(incoming, 20)]
    assert_same_images(found, stream, 2)
    assert not first.lost_worker and "killed" in found[-1].lost_worker
    assert not workers()


def test_after_a_bus_error_decoded_images_are_left_alone(stream: Stream, tmp_path: Path) -> None:
    """A page of a mapped file that the disk cannot read would kill the trainer as it killed its worker."""
    where = str(tmp_path / "decoded")
    stream.decoded, _ = plan_cache(stream.dataset, where).open()
    incoming = batches(stream, 0, workers=2)
    first = next(incoming)
    workers()[0].send_signal(signal.SIGBUS)
    found = [first, *islice(incoming, 20)]
    assert stream.decoded is None
    assert_same_images(found, stream, 0)
    assert all(said in found[-1].lost_worker for said in ("bus error", where, "--decoded-cache off"))


def test_a_worker_that_dies_during_a_step_interrupts_nothing(stream: Stream) -> None:
    incoming = batches(stream, 0, workers=2)
    next(incoming)
    workers()[0].kill()
    until = time.monotonic() + 1.5  # DataLoader's handler of SIGCHLD would raise here
    while time.monotonic() < until:
        time.sleep(0.01)
    assert "killed" in list(islice(incoming, 20))[-1].lost_worker


def test_a_worker_that_stays_stopped_is_given_up(stream: Stream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker_watch, "_INTERVAL", 0.1)
    incoming = batches(stream, 0, workers=2)
    first = next(incoming)
    workers()[0].send_signal(signal.SIGSTOP)
    found = [first, *islice(incoming, 20)]
    assert_same_images(found, stream, 0)
    assert "stopped" in found[-1].lost_worker and not workers()


def test_a_stopped_worker_does_not_delay_the_end(stream: Stream) -> None:
    incoming = batches(stream, 0, workers=2)
    next(incoming)
    for worker in workers():
        worker.send_signal(signal.SIGSTOP)
    while any(worker.status() != psutil.STATUS_STOPPED for worker in workers()):
        time.sleep(0.01)
    began = time.monotonic()
    incoming.close()  # pyright: ignore[reportAttributeAccessIssue] - a generator
    assert time.monotonic() - began < 4 and not workers()


def test_the_handler_of_sigchld_is_left_as_it_was(handled: list[int], stream: Stream) -> None:
    incoming = batches(stream, 0, workers=1)
    next(incoming)
    os.kill(os.getpid(), signal.SIGCHLD)
    assert handled == [signal.SIGCHLD]
    incoming.close()  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture
def handled() -> Iterator[list[int]]:
    """Install a handler of SIGCHLD, and return the list of the signals that it receives."""
    received: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: received.append(number))
    yield received
    signal.signal(signal.SIGCHLD, before)
