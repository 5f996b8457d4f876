"""The endless stream of batches: positions -> sample ids -> bytes -> pixels, for one rank.

Global batch b is positions [b·B, (b+1)·B); rank r of R takes its contiguous B/R of them. The number of the
batch says everything, so the stream has no state: to resume is to start counting elsewhere, and neither
workers nor ranks change what anybody sees.
"""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from shards import order
from shards.decode import decode
from shards.errors import Failure, UserError
from shards.index import Dataset


class Batch(NamedTuple):
    """One rank's share of a global batch, b = B / R samples."""

    images: Tensor  # uint8 (b, 3, S, S)
    label: Tensor  # float32 (b, L), zero where unknown
    known: Tensor  # float32 (b, A), 0 or 1
    wrong_label: Tensor  # float32 (b, L): contradicts the picture's own label, where has_wrong
    wrong_known: Tensor  # float32 (b, A)
    has_wrong: Tensor  # float32 (b,), 0 or 1
    position: Tensor  # int64 (b,), place in the endless stream
    wrong_count: int  # how many of the *global* batch have a wrong label


class Stream(TorchDataset[Batch]):
    """Maps the number of a global batch to this rank's share of it.

    Args:
        dataset: where the pictures lie.
        batch: samples of a global batch, B.
        seed: decides the order and the wrong labels.
        rank, world: this process's place, R = world.

    Raises:
        UserError: the data set is empty, or the processes do not divide the batch.
    """

    def __init__(self, dataset: Dataset, batch: int, seed: int, rank: int = 0, world: int = 1) -> None:
        if not len(dataset):
            raise UserError(f"{dataset.path} holds no pictures")
        check_division(batch, world, 1)
        self.dataset, self.batch, self.seed, self.rank, self.world = dataset, batch, seed, rank, world

    def __getitem__(self, number: int) -> Batch:
        """Global batch ``number`` (≥ 0, without end), this rank's share."""
        labels, known = self.dataset.labels, self.dataset.known
        positions = np.arange(number * self.batch, (number + 1) * self.batch, dtype=np.int64)
        samples = order.sample_at(self.seed, len(self.dataset), positions)
        # For the whole global batch: every rank must know how many wrong labels all of them have together.
        starts = self.dataset.schema.starts
        partners, found = order.partner_at(self.seed, positions, samples, labels, known, starts)

        share = self.batch // self.world
        mine = slice(self.rank * share, (self.rank + 1) * share)
        own, wrong = samples[mine], partners[mine]
        pixels = np.stack([self._pixels(i) for i in own.tolist()])
        return Batch(
            images=torch.from_numpy(pixels),
            label=_float(labels[own]),
            known=_float(known[own]),
            wrong_label=_float(labels[wrong]),
            wrong_known=_float(known[wrong]),
            has_wrong=_float(found[mine]),
            position=torch.from_numpy(positions[mine]),
            wrong_count=int(found.sum()),
        )

    def _pixels(self, sample: int) -> np.ndarray:
        try:
            return decode(self.dataset.read(sample), self.dataset.size)
        except ValueError as error:
            raise Failure(f"{self.dataset.path}, sample {sample}: {error}; pack the data set again") from None


def batches(stream: Stream, start: int, workers: int, pin_memory: bool = False) -> Iterator[Batch]:
    """The stream's batches from number ``start`` on, without end, in order, prefetched by ``workers`` processes.

    Raises:
        Failure: a picture cannot be read, or a worker was killed.
    """
    loader = DataLoader(
        stream,
        sampler=_Count(start),
        batch_size=None,  # a sample of the stream is already a batch
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=pin_memory,
        worker_init_fn=_ignore_signals,
    )
    try:
        yield from loader
    except Failure as error:  # a worker's arrives with its traceback
        raise Failure(str(error).strip().splitlines()[-1].removeprefix("shards.errors.Failure: ")) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise Failure("a data-loading process was killed (by lack of memory, perhaps); use fewer --workers") from None


def check_division(batch: int, world: int, accumulate: int) -> None:
    """Make sure that processes x accumulation divide the batch.

    Raises:
        UserError: they do not; the sentence names the nearest sizes that would do.
    """
    parts = world * accumulate
    if batch % parts:
        below, above = batch // parts * parts, (batch // parts + 1) * parts
        near = f"{below} or {above}" if below else str(above)
        raise UserError(
            f"--batch {batch} cannot be shared by {world} processes x {accumulate} accumulation steps; use {near}"
        )


class _Count(Sampler[int]):
    """start, start + 1, … without end."""

    def __init__(self, start: int) -> None:
        self.start = start

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start)


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and a scheduler's signals reach every process of a group; the trainer decides when its workers end."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
