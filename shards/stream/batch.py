"""One batch, from the stream to the training step."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Batch(NamedTuple):
    """A batch of samples, or a part of one: one rank's part of a global batch, or one micro-batch of that.

    b samples of H x W pixels in C channels, with L label entries and A attributes. The stream yields images as uint8 on
    the CPU; the training step takes what `to` makes of them.
    """

    images: Tensor  # (b, C, H, W), channels last in memory: uint8, or floating point in [-1, 1]
    labels: Tensor  # (b, L) label vectors, zero where unknown
    known: Tensor  # (b, A), 0 or 1: which attributes are known
    wrong_labels: Tensor  # (b, L): contradict the images' own labels, where has_wrong is 1
    wrong_known: Tensor  # (b, A)
    has_wrong: Tensor  # (b,), 0 or 1: whether a wrong label was found
    positions: Tensor  # int64 (b,), positions in the endless stream: the key of every random draw for a sample
    wrong_count: int  # samples of the *global* batch that have a wrong label
    damaged: int = 0  # samples of this rank's part that could not be read or decoded, and were replaced
    first_damage: str = ""  # what was wrong with the first of them, and where
    lost_worker: str = ""  # what happened to a data worker; the trainer read this batch itself, and should stop

    def to(self, device: torch.device, dtype: torch.dtype) -> Batch:
        """Return the batch on ``device`` in floating point ``dtype``, with the images scaled to [-1, 1]."""
        images = self.images.to(device, non_blocking=True)  # as uint8: a quarter of the floats' bytes to copy

        def moved(field: Tensor) -> Tensor:
            return field.to(device, dtype, non_blocking=True)

        return self._replace(
            images=(images.to(dtype) / 127.5 - 1).contiguous(memory_format=torch.channels_last),
            labels=moved(self.labels),
            known=moved(self.known),
            wrong_labels=moved(self.wrong_labels),
            wrong_known=moved(self.wrong_known),
            has_wrong=moved(self.has_wrong),
            positions=self.positions.to(device, non_blocking=True),
        )

    def split(self, parts: int) -> list[Batch]:
        """Return ``parts`` micro-batches, views of consecutive samples; all keep the counts of the whole."""
        chunks = (field.chunk(parts) if isinstance(field, Tensor) else [field] * parts for field in self)
        return [Batch._make(fields) for fields in zip(*chunks, strict=True)]
