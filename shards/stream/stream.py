"""The endless stream of batches: positions -> sample ids -> bytes -> pixels, for one rank.

Global batch b is positions [b·B, (b+1)·B); rank r of R takes its contiguous B/R of them. The number of the
batch says everything, so the stream has no state: to resume is to start counting elsewhere, and neither
workers nor ranks change what anybody sees.
"""

from __future__ import annotations

import atexit
import itertools
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import decode_into, fit_into
from shards.stream import order
from shards.stream.sampling import Sampling, check_division, order_of
from shards.stream.shared_ring import Ring

_PLAIN = Sampling()
_AHEAD = 4  # batches that a worker may be ahead of the trainer


class Batch(NamedTuple):
    """One rank's share of a global batch, b = B / R samples."""

    images: Tensor  # uint8 (b, 3, S, S), channels last in memory
    label: Tensor  # float32 (b, L), zero where unknown
    known: Tensor  # float32 (b, A), 0 or 1
    wrong_label: Tensor  # float32 (b, L): contradicts the picture's own label, where has_wrong
    wrong_known: Tensor  # float32 (b, A)
    has_wrong: Tensor  # float32 (b,), 0 or 1
    position: Tensor  # int64 (b,), place in the endless stream
    wrong_count: int  # how many of the *global* batch have a wrong label
    damaged: int = 0  # how many of this share could not be read or decoded, and were replaced
    complaint: str = ""  # what was wrong with the first of them, and where


def read_pixels(dataset: Dataset, sample: int, out: np.ndarray) -> None:
    """Put the pixels of one sample into ``out``, uint8 (S, S, 3), however the data set holds them.

    Raises:
        ValueError: it cannot be decoded.
        Failure: it cannot be read, or fetched.
    """
    form = dataset.format(sample)
    if form == "raw":
        dataset.read_into(sample, out.data.cast("B"))
    elif form == "other":
        fit_into(dataset.read(sample), out, dataset.fit, dataset.background)
    else:
        decode_into(dataset.read(sample), out)


class Stream(TorchDataset[Batch]):
    """Maps the number of a global batch to this rank's share of it.

    A sample that cannot be read or decoded is replaced by another one that its position decides, so that ranks and
    workers need not talk: one with a label if the damaged one had a label, and that still contradicts the wrong label.

    Args:
        dataset: where the pictures lie.
        batch: samples of a global batch, B.
        seed: decides the order, the wrong labels and the substitutes.
        rank, world: this process's place, R = world.
        sampling: plain or windowed, quota, balance.
        wrong: one of `order.WRONG_LABELS`: another picture's label, or the right one with one attribute of that.

    Raises:
        UserError: the data set is empty or lacks what ``sampling`` asks for, or the processes do not divide the batch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        seed: int,
        rank: int = 0,
        world: int = 1,
        sampling: Sampling = _PLAIN,
        wrong: str = "sample",
    ) -> None:
        if not len(dataset):
            raise UserError(f"{dataset.where} holds no pictures")
        check_division(batch, world, 1)
        self.dataset, self.batch, self.seed, self.rank, self.world = dataset, batch, seed, rank, world
        self.sampling, self.wrong = sampling, wrong
        self.order = order_of(dataset, sampling, batch, seed)
        self._labelled = _labelled(dataset)
        self._texts = np.array([a.kind == "text" for a in dataset.schema.attributes], bool)
        self._hinted: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Spawned workers work the order out again: it may hold long lists of samples."""
        return Stream, (self.dataset, self.batch, self.seed, self.rank, self.world, self.sampling, self.wrong)

    def positions(self, number: int) -> np.ndarray:
        """Where global batch ``number`` lies in the endless stream, int64 (B,)."""
        return np.arange(number * self.batch, (number + 1) * self.batch, dtype=np.int64)

    @property
    def mine(self) -> slice:
        """This rank's share of a global batch."""
        share = self.batch // self.world
        return slice(self.rank * share, (self.rank + 1) * share)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(b, S, S, 3): how the pixels of a share lie in memory."""
        return self.batch // self.world, self.dataset.size, self.dataset.size, 3

    def __getitem__(self, number: int) -> Batch:
        """Global batch ``number`` (≥ 0, without end), this rank's share."""
        return self.fill(number, np.empty(self.shape, np.uint8))

    def fill(self, number: int, images: np.ndarray) -> Batch:
        """As ``stream[number]``, with the pixels written to ``images``: uint8, of the stream's ``shape``."""
        labels, known, starts = self.dataset.labels, self.dataset.known, self.dataset.schema.starts
        positions = self.positions(number)
        samples = self.order(positions)
        # For the whole global batch: every rank must know how many wrong labels all of them have together.
        partners, found = order.partner_at(
            self.seed, positions, samples, labels, known, starts, self._texts, self._labelled
        )
        if self.dataset.remote:
            self._prefetch(positions)

        mine, count = self.mine, int(found.sum())
        positions, own, partners, found = positions[mine], samples[mine], partners[mine], found[mine]
        complaints = self._read_all(images, positions, own, partners, found)
        wrong = np.where(found, partners, own)  # after the substitutes took their places
        wrong_label, wrong_known = labels[wrong], known[wrong]
        if self.wrong == "hard":
            right = labels[own], known[own]
            wrong_label = order.hard(self.seed, positions, *right, wrong_label, wrong_known, starts, self._texts)
            wrong_known = right[1]
        return Batch(
            images=_channels_last(images),
            label=_float(labels[own]),
            known=_float(known[own]),
            wrong_label=_float(wrong_label),
            wrong_known=_float(wrong_known),
            has_wrong=_float(found),
            position=torch.from_numpy(positions),
            wrong_count=count,
            damaged=len(complaints),
            complaint=complaints[0] if complaints else "",
        )

    def _read_all(
        self, images: np.ndarray, positions: np.ndarray, own: np.ndarray, partners: np.ndarray, found: np.ndarray
    ) -> list[str]:
        """Put the pixels of samples ``own`` into ``images``, and the substitutes of damaged ones into both.

        Returns:
            What was wrong with the damaged ones.
        """
        complaints = []
        for row, (out, sample) in enumerate(zip(images, own.tolist(), strict=True)):
            complaint = self._read(sample, out)
            if complaint is not None:
                partner = int(partners[row]) if found[row] else None
                own[row] = self._substitute(int(positions[row]), sample, partner, out, complaint)
                complaints.append(f"{self._where(sample)}: {complaint}")
        return complaints

    def _read(self, sample: int, out: np.ndarray) -> str | None:
        """Put the pixels of a sample into ``out``, (S, S, 3).

        Returns:
            None, or what is wrong with the sample.
        """
        try:
            read_pixels(self.dataset, sample, out)
        except ValueError as error:
            return str(error)
        except Failure as failure:
            if self.dataset.remote:  # its shards are checked when they arrive: this is a lost server or a full disk
                raise
            return str(failure)
        return None

    def _substitute(self, position: int, sample: int, partner: int | None, out: np.ndarray, complaint: str) -> int:
        """The sample that stands in for a damaged one; its pixels are put into ``out``.

        Raises:
            Failure: none of the candidates can be read.
        """
        shard = self._shard(sample)
        for candidate in order.substitutes(self.seed, position, shard, len(self.dataset)).tolist():
            if self._may_stand_in(candidate, sample, partner) and self._read(candidate, out) is None:
                return candidate
        raise Failure(f"{self._where(sample)}: {complaint}; no other sample that was tried could take its place")

    def _may_stand_in(self, candidate: int, sample: int, partner: int | None) -> bool:
        labels, known, starts = self.dataset.labels, self.dataset.known, self.dataset.schema.starts
        if candidate == sample or known[candidate].any() != known[sample].any():
            return False
        if partner is None:
            return True
        a, b = [candidate], [partner]
        return bool(order.contradicts(labels[a], known[a], labels[b], known[b], starts, self._texts)[0])

    def _shard(self, sample: int) -> range:
        """The samples of one sample's shard; all, where the shards' samples are not in order."""
        try:
            bounds = self.dataset.shard_bounds
        except UserError:
            return range(len(self.dataset))
        shard = self.dataset.shard_of(sample)
        return range(int(bounds[shard]), int(bounds[shard + 1]))

    def _where(self, sample: int) -> str:
        return f"{self.dataset.shards[self.dataset.shard_of(sample)]}, sample {sample}"

    def _prefetch(self, positions: np.ndarray) -> None:
        """Name the shards that these batches and the next ones need, whenever they change."""
        needed = self.order.shards(positions)
        if needed != self._hinted:
            self._hinted = needed
            self.dataset.prefetch(needed)


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
            yield Batch(_channels_last(ring[number]), *rest)
    except UserError as error:
        raise type(error)(_sentence(error)) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise Failure("a data-loading process was killed (by lack of memory, perhaps); use fewer --workers") from None
    finally:
        end()  # now, and not when the last reference goes: an error's traceback may keep one
        atexit.unregister(end)


def _labelled(dataset: Dataset) -> np.ndarray | None:
    """The samples of which anything is known, int64; None if that is all of them, or none."""
    some = np.zeros(len(dataset), bool)
    for column in np.asarray(dataset.known).T:  # much quicker than row by row
        some |= column
    return None if some.all() or not some.any() else np.flatnonzero(some)


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


def _channels_last(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _copied(batch: Batch, pin_memory: bool) -> Batch:
    """The batch in memory of its own."""
    tensors = {name: part for name, part in batch._asdict().items() if isinstance(part, Tensor)}
    copies = {name: torch.empty_like(t, pin_memory=pin_memory).copy_(t) for name, t in tensors.items()}
    return batch._replace(**copies)


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))


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
