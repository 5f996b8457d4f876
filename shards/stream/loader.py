"""Batches of a stream, prefetched by worker processes."""

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

from shards.core.errors import Failure, UserError
from shards.stream.batch import Batch
from shards.stream.shared_ring import Ring
from shards.stream.stream import Stream, channels_last

_AHEAD = 4  # batches that a worker may be ahead of the trainer


def batches(stream: Stream, start: int, workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """The stream's batches from number ``start`` on, without end, in order, prefetched by ``workers`` processes.

    Args:
        pin_memory: put them where a GPU fetches them without waiting.

    Raises:
        UserError: the shards can no longer be had as asked.
        Failure: a shard cannot be read, no substitute for a picture was found, or a worker was killed.
    """
    made = _from_workers(stream, start, workers) if workers else map(stream.__getitem__, itertools.count(start))
    for batch in made:
        yield _copied(batch, pin_memory) if workers or pin_memory else batch


def _from_workers(stream: Stream, start: int, workers: int) -> Iterator[Batch]:
    """As `batches`; a batch's pixels stay until the next one is asked for."""
    # A worker is told to make batch n + workers * _AHEAD when batch n is handed out, not when it was used.
    ring = Ring(workers * _AHEAD + 1, stream.shape)
    loader = DataLoader(
        _Shared(stream, ring),
        sampler=_Count(start),
        batch_size=None,  # a sample of the stream is already a batch
        collate_fn=tuple,  # the usual one makes tensors of the arrays, in shared memory
        num_workers=workers,
        prefetch_factor=_AHEAD,
        worker_init_fn=partial(_begin, ring),
    )
    iterator = iter(loader)

    def end() -> None:
        ring.close()
        iterator._shutdown_workers()  # pyright: ignore[reportAttributeAccessIssue]

    # The workers ignore SIGTERM, by which an exiting interpreter would end them, and then wait: end them before that.
    atexit.register(end)
    try:
        for number, sent in zip(itertools.count(start), iterator, strict=False):
            rest: list[Any] = [torch.from_numpy(part) if isinstance(part, np.ndarray) else part for part in sent]
            yield Batch(channels_last(ring[number]), *rest)
    except UserError as error:
        raise type(error)(_sentence(error)) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise Failure("a data-loading process was killed (by lack of memory, perhaps); use fewer --workers") from None
    finally:
        end()  # now, and not when the last reference goes: an error's traceback may keep one
        atexit.unregister(end)


class _Shared(TorchDataset[tuple[Any, ...]]):
    """A stream as workers see it: pixels go into the ring, and the rest is returned, to be sent."""

    def __init__(self, stream: Stream, ring: Ring) -> None:
        self.stream, self.ring = stream, ring

    def __getitem__(self, number: int) -> tuple[Any, ...]:
        _, *rest = self.stream.fill(number, self.ring[number])
        return tuple(part.numpy() if isinstance(part, Tensor) else part for part in rest)


class _Count(Sampler[int]):
    """start, start + 1, … without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


def _copied(batch: Batch, pin_memory: bool) -> Batch:
    """The batch in memory of its own."""
    tensors = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
    copies = {name: torch.empty_like(t, pin_memory=pin_memory).copy_(t) for name, t in tensors.items()}
    return batch._replace(**copies)


def _sentence(error: UserError) -> str:
    """What an error says; from a worker it arrives with its traceback, whose last line names its kind."""
    kind = f"{type(error).__module__}.{type(error).__qualname__}: "
    return str(error).strip().rpartition(f"\n{kind}")[2]


def _begin(ring: Ring, worker: int) -> None:
    """In each worker: signals are the trainer's business, and no worker outlives the stream or the trainer.

    Ctrl-C and a scheduler's signals reach every process of a group; and a worker may be in the middle of a fetch
    that takes minutes.
    """
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    parent = os.getppid()

    def leave() -> None:
        while not ring.closed and os.getppid() == parent:
            time.sleep(0.2)
        os._exit(0)

    threading.Thread(target=leave, name="leave with the trainer", daemon=True).start()
