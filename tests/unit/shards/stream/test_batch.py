"""The batch that goes from the stream to the training step."""

from __future__ import annotations

import torch

from shards.stream.batch import Batch

CPU = torch.device("cpu")


def make_batch(count: int = 6) -> Batch:
    images = torch.randint(256, (count, 3, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    labels, known = torch.eye(count), torch.ones(count, 2)
    return Batch(images, labels, known, labels.flip(1), known, torch.ones(count), torch.arange(count), 9, 1, "x.tar")


def test_a_moved_batch_has_images_between_minus_one_and_one() -> None:
    batch = make_batch()
    moved = batch.to(CPU, torch.float64)
    assert moved.images.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(moved.images, batch.images.double() / 127.5 - 1)
    assert {field.dtype for field in moved[:6]} == {torch.float64} and moved.positions.dtype == torch.int64
    assert moved[7:] == batch[7:] == (9, 1, "x.tar", "")


def test_micro_batches_are_consecutive_parts_with_the_counts_of_the_whole() -> None:
    batch = make_batch()
    parts = batch.split(3)
    assert [part.positions.tolist() for part in parts] == [[0, 1], [2, 3], [4, 5]]
    for name in Batch._fields[:7]:
        assert torch.equal(torch.cat([getattr(part, name) for part in parts]), getattr(batch, name))
    assert all(part[7:] == batch[7:] for part in parts)
