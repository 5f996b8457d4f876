"""Iterate over the batches of a stream, prefetched by worker processes."""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from shards.core.errors import UserError
from shards.stream.batch import Batch
from shards.stream.shared_ring import SharedRing
from shards.stream.stream import Stream, channels_last
from shards.stream.worker_watch import WorkerWatch

_AHEAD = 4  # batches that a worker may be ahead of the trainer


def batches(stream: Stream, start: int, workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """Yield the batches of a stream from number ``start`` on, in order and without end.

    Args:
        workers: processes that prefetch; 0 reads in this process.
        pin_memory: copy batches to pinned memory, from which a GPU can copy asynchronously.

    Raises:
        UserError: the shards are no longer available.
        Failure: a shard cannot be read, or no replacement for a damaged sample was found.

    If a worker is killed, or stays stopped, this process reads the batches from there on, and says so in
    ``lost_worker``: the trainer can save, and stop.
    """
    made = _from_workers(stream, start, workers) if workers else map(stream.__getitem__, itertools.count(start))
    for batch in made:
        yield _copied(batch, pin_memory) if workers or pin_memory else batch


def _from_workers(stream: Stream, start: int, workers: int) -> Iterator[Batch]:
    """Yield batches made by workers; the pixels of one are valid until the next is requested."""
    # A worker is asked for batch n + workers * _AHEAD when batch n is handed out, before it has been used.
    ring = SharedRing(workers * _AHEAD + 1, stream.pixels_shape)
    loader = DataLoader(
        _RingWriter(stream, ring),
        sampler=_Count(start),
        batch_size=None,  # an item of the stream is already a batch
        collate_fn=_as_is,  # the default makes tensors of the arrays, in shared memory
        num_workers=workers,
        prefetch_factor=_AHEAD,
        worker_init_fn=partial(_start_worker, ring),
    )
    watch = WorkerWatch(partial(iter, loader))

    def end() -> None:
        ring.close()
        watch.close()

    # The workers ignore SIGTERM, with which an exiting interpreter would end them and then wait: end them before that.
    atexit.register(end)
    number = start
    try:
        for sent in watch:
            if isinstance(sent, UserError):
                raise sent
            rest: list[Any] = [torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in sent]
            yield Batch(channels_last(ring[number]), *rest)
            number += 1
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
    finally:
        end()  # now rather than with the last reference: the traceback of an error may keep one
        atexit.unregister(end)
    lost = "was killed (out of memory? use fewer --workers)"
    if watch.stopped:
        lost = "was stopped (SIGSTOP), and did not continue"
    elif any(worker.exitcode == -signal.SIGBUS for worker in watch.workers):
        lost = "had a bus error: a file that it reads through a map is cut or on a failing disk"
        if stream.decoded is not None:
            lost += f", maybe {stream.decoded.path}; try --decoded-cache off"
            stream.decoded = None  # the same page would kill this process
    for further in itertools.count(number):
        yield stream[further]._replace(lost_worker=lost)


class _RingWriter(TorchDataset[Any]):
    """A stream as workers see it: pixels are written to the ring, and everything else is returned, to be sent."""

    def __init__(self, stream: Stream, ring: SharedRing) -> None:
        self.stream, self.ring = stream, ring

    def __getitem__(self, number: int) -> tuple[Any, ...] | UserError:
        """Return all but the pixels of a batch, or the error: raised here, DataLoader would make another one of it."""
        try:
            _, *rest = self.stream.fill(number, self.ring[number])
        except UserError as error:
            return error
        return tuple(part.numpy() if isinstance(part, Tensor) else part for part in rest)


class _Count(Sampler[int]):
    """start, start + 1, … without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


def _as_is(item: Any) -> Any:
    return item


def _copied(batch: Batch, pin_memory: bool) -> Batch:
    """Return a copy of the batch in its own memory."""
    tensors = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
    copies = {name: torch.empty_like(t, pin_memory=pin_memory).copy_(t) for name, t in tensors.items()}
    return batch._replace(**copies)


def _start_worker(ring: SharedRing, worker: int) -> None:
    """Prepare a worker: ignore signals, and exit with the stream or the trainer.

    Ctrl-C and a scheduler's signals reach every process of a group, and the trainer alone handles them. A worker may be
    in the middle of a fetch that takes minutes, so a thread watches for the end.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = os.getppid()

    def exit_with_parent() -> None:
        while not ring.closed and os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    threading.Thread(target=exit_with_parent, name="exit with the trainer", daemon=True).start()
