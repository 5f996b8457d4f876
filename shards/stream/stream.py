"""The endless stream of batches: positions → samples → bytes → pixels, for one rank.

Global batch b covers the positions [b·B, (b+1)·B); rank r of R takes its contiguous B/R of them. The number of the
batch determines everything, so the stream has no state: to resume is to start counting at another number, and the data
do not depend on the number of ranks or workers.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset as TorchDataset

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.stream.batch import Batch
from shards.stream.decoded_rows import DecodedRows
from shards.stream.order import replacement_candidates
from shards.stream.sampling import Sampling, build_order, check_division
from shards.stream.wrong_labels import LabelTable, contradicts, draw_partners, swap_attributes

_PLAIN = Sampling()


class Stream(TorchDataset[Batch]):
    """A map from the number of a global batch to this rank's part of it.

    A sample that cannot be read or decoded is replaced by another that its position determines, so ranks and workers
    need not communicate. The replacement has a label if the damaged sample had one, and contradicts the wrong label.

    Args:
        dataset: the source of images and labels.
        batch: samples in a global batch, B.
        seed: determines the order, the wrong labels and the replacements.
        rank, world: this process's rank, and the number of ranks R.
        sampling: full or windowed order, fraction of unlabelled images, balance.
        wrong: one of `wrong_labels.WRONG_LABELS`: "sample" (another sample's label) or "hard" (the true label with
            few attributes swapped).
        decoded: keeps decoded pixels, so that each image is decoded once; None: images are decoded each time.

    Raises:
        UserError: the dataset is empty or lacks what ``sampling`` needs, or R does not divide B.
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
        decoded: DecodedRows | None = None,
    ) -> None:
        if not len(dataset):
            raise UserError("dataset-empty", f"{dataset.where} contains no images")
        check_division(batch, world, 1)
        self.dataset, self.batch, self.seed, self.rank, self.world = dataset, batch, seed, rank, world
        self.sampling, self.wrong, self.decoded = sampling, wrong, decoded
        self.order = build_order(dataset, sampling, batch, seed)
        schema = dataset.schema
        labels = cast(np.ndarray, dataset.labels)  # rows of it are arrays, and only rows are used
        self._table = LabelTable(
            labels, dataset.known, schema.starts, tuple(attribute.kind for attribute in schema.attributes)
        )
        self._labelled = _labelled_samples(dataset)
        self._prefetched: list[int] = []

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the arguments alone: spawned workers build the order again, which may hold long lists of samples."""
        rest = (self.sampling, self.wrong, self.decoded)
        return Stream, (self.dataset, self.batch, self.seed, self.rank, self.world, *rest)

    def positions(self, number: int) -> np.ndarray:
        """Return the positions of global batch ``number`` in the endless stream, int64 (B,)."""
        return np.arange(number * self.batch, (number + 1) * self.batch, dtype=np.int64)

    @property
    def local(self) -> slice:
        """This rank's part of a global batch."""
        size = self.batch // self.world
        return slice(self.rank * size, (self.rank + 1) * size)

    @property
    def pixels_shape(self) -> tuple[int, int, int, int]:
        """The memory layout of this rank's pixels, (b, H, W, C)."""
        return self.batch // self.world, *self.dataset.shape.pixels_shape

    def __getitem__(self, number: int) -> Batch:
        """Return this rank's part of global batch ``number`` (≥ 0, without end)."""
        return self.fill(number, np.empty(self.pixels_shape, np.uint8))

    def fill(self, number: int, pixels: np.ndarray) -> Batch:
        """Return ``stream[number]`` with its pixels written to ``pixels``, uint8 of shape ``pixels_shape``."""
        positions = self.positions(number)
        samples = self.order(positions)
        # For the whole global batch: every rank must know how many wrong labels all ranks have together.
        partners, found = draw_partners(self.seed, positions, samples, self._table, self._labelled)
        local, wrong_count = self.local, int(found.sum())
        positions, samples, partners, found = positions[local], samples[local], partners[local], found[local]
        damages = self._read_all(number, pixels, samples, partners, found)
        own = self._table.rows(samples)  # after damaged samples were replaced
        wrong = self._table.rows(np.where(found, partners, samples))
        if self.wrong == "hard":
            wrong_labels, wrong_known = swap_attributes(self.seed, positions, own, wrong), own.known
        else:
            wrong_labels, wrong_known = wrong.labels, wrong.known
        return Batch(
            images=channels_last(pixels),
            labels=_float_tensor(own.labels),
            known=_float_tensor(own.known),
            wrong_labels=_float_tensor(wrong_labels),
            wrong_known=_float_tensor(wrong_known),
            has_wrong=_float_tensor(found),
            positions=torch.from_numpy(positions),
            wrong_count=wrong_count,
            damaged=len(damages),
            first_damage=damages[0] if damages else "",
        )

    def _read_all(
        self, number: int, pixels: np.ndarray, samples: np.ndarray, partners: np.ndarray, found: np.ndarray
    ) -> list[str]:
        """Read the pixels of ``samples``, of batch ``number``, into ``pixels``; replace damaged samples in both.

        Returns:
            What was wrong with each damaged sample.
        """
        kept = np.zeros(len(samples), bool) if self.decoded is None else self.decoded.read(samples, pixels)
        if kept.all():
            return []
        positions = self.positions(number)
        if self.dataset.remote:
            self._prefetch(positions)
        decoded, damages = [], []
        for row in np.flatnonzero(~kept).tolist():
            sample, out = int(samples[row]), pixels[row]
            damage = self._read(sample, out)
            if damage is None:
                decoded.append(row)
            else:
                partner = int(partners[row]) if found[row] else None
                samples[row] = self._replace(int(positions[self.local][row]), sample, partner, out, damage)
                damages.append(f"{self._location(sample)}: {damage}")
        if self.decoded is not None and decoded:
            self.decoded.write(samples[decoded], pixels[decoded])
        return damages

    def _read(self, sample: int, out: np.ndarray) -> str | None:
        """Read the pixels of a sample into ``out``, (H, W, C).

        Returns:
            None, or what is wrong with the sample.
        """
        try:
            read_pixels(self.dataset, sample, out)
        except ValueError as error:
            return str(error)
        except Failure as failure:
            if self.dataset.remote:  # its shards are verified on arrival: the server is lost, or the disk is full
                raise
            return str(failure)
        return None

    def _replace(self, position: int, sample: int, partner: int | None, out: np.ndarray, damage: str) -> int:
        """Read the pixels of a replacement for a damaged sample into ``out``, and return the replacement.

        Raises:
            Failure: none of the candidates can be read.
        """
        shard = self._samples_of_shard(sample)
        for candidate in replacement_candidates(self.seed, position, shard, len(self.dataset)).tolist():
            if self._may_replace(candidate, sample, partner) and self._read(candidate, out) is None:
                return candidate
        raise Failure(
            "no-replacement-sample",
            f"{self._location(sample)}: {damage}; none of the samples that were tried can replace it",
        )

    def _may_replace(self, candidate: int, sample: int, partner: int | None) -> bool:
        known = self._table.known
        if candidate == sample or known[candidate].any() != known[sample].any():
            return False
        return partner is None or bool(contradicts(self._table.rows([candidate]), self._table.rows([partner]))[0])

    def _samples_of_shard(self, sample: int) -> range:
        """Return the samples of one sample's shard; all samples if the index is not in the order of the shards."""
        try:
            bounds = self.dataset.shard_bounds
        except UserError:
            return range(len(self.dataset))
        shard = self.dataset.shard_of(sample)
        return range(int(bounds[shard]), int(bounds[shard + 1]))

    def _location(self, sample: int) -> str:
        return f"{self.dataset.shards[self.dataset.shard_of(sample)]}, sample {sample}"

    def _prefetch(self, positions: np.ndarray) -> None:
        """Prefetch the shards that this batch and the next ones need, whenever they change."""
        needed = self.order.shards_in_use(positions)
        if needed != self._prefetched:
            self._prefetched = needed
            self.dataset.prefetch(needed)


def _labelled_samples(dataset: Dataset) -> np.ndarray | None:
    """Return the samples with at least one known attribute, int64; None if those are all samples, or none."""
    labelled = np.zeros(len(dataset), bool)
    for column in np.asarray(dataset.known).T:  # much faster than row by row
        labelled |= column
    return None if labelled.all() or not labelled.any() else np.flatnonzero(labelled)


def channels_last(pixels: np.ndarray) -> Tensor:
    """Return pixels (b, H, W, C) as a tensor (b, C, H, W) that shares their memory."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def _float_tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, np.float32))
