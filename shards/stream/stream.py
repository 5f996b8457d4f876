"""The endless stream of batches: positions -> sample ids -> bytes -> pixels, for one rank.

Global batch b is positions [b·B, (b+1)·B); rank r of R takes its contiguous B/R of them. The number of the
batch says everything, so the stream has no state: to resume is to start counting elsewhere, and neither
workers nor ranks change what anybody sees.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.stream import order, wrong_labels
from shards.stream.batch import Batch
from shards.stream.sampling import Sampling, check_division, order_of

_PLAIN = Sampling()


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
        wrong: one of `wrong_labels.WRONG_LABELS`: another picture's label, or the right one with one attribute of that.

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
        partners, found = wrong_labels.partner_at(
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
            wrong_label = wrong_labels.hard(self.seed, positions, *right, wrong_label, wrong_known, starts, self._texts)
            wrong_known = right[1]
        return Batch(
            images=channels_last(images),
            labels=_float(labels[own]),
            known=_float(known[own]),
            wrong_labels=_float(wrong_label),
            wrong_known=_float(wrong_known),
            has_wrong=_float(found),
            positions=torch.from_numpy(positions),
            wrong_count=count,
            damaged=len(complaints),
            first_damage=complaints[0] if complaints else "",
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
        return bool(wrong_labels.contradicts(labels[a], known[a], labels[b], known[b], starts, self._texts)[0])

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


def _labelled(dataset: Dataset) -> np.ndarray | None:
    """The samples of which anything is known, int64; None if that is all of them, or none."""
    some = np.zeros(len(dataset), bool)
    for column in np.asarray(dataset.known).T:  # much quicker than row by row
        some |= column
    return None if some.all() or not some.any() else np.flatnonzero(some)


def channels_last(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _float(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
