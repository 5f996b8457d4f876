"""The stream: the same global batches for every number of ranks and workers, from any position on."""

from __future__ import annotations

import pickle
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from launching import make_dataset
from PIL import Image

from shards.decode import decode
from shards.errors import UserError
from shards.index import Dataset
from shards.stream import Batch, Stream, batches, check_division

BATCH = 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("stream"), count=50, per_shard=16)


def take(stream: Stream, start: int, count: int, workers: int = 0) -> list[Batch]:
    return list(islice(batches(stream, start, workers), count))


def glue(shares: list[Batch]) -> Batch:
    """The global batch of its ranks' shares."""
    tensors = [torch.cat(parts) for parts in zip(*(share[:-1] for share in shares), strict=True)]
    assert len({share.wrong_count for share in shares}) == 1, "every rank knows the global count"
    return Batch(*tensors, wrong_count=shares[0].wrong_count)


def assert_equal(one: Batch, other: Batch) -> None:
    for name, a, b in zip(Batch._fields, one, other, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b)), name


@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_global_batches_do_not_depend_on_ranks_or_workers(dataset: Dataset, world: int, workers: int) -> None:
    expected = take(Stream(dataset, BATCH, seed=5), 1, 3)
    if workers and world not in (1, 3):
        pytest.skip("workers are tried with one and three ranks")
    shares = [take(Stream(dataset, BATCH, 5, rank, world), 1, 3, workers) for rank in range(world)]
    for number in range(3):
        assert_equal(glue([share[number] for share in shares]), expected[number])


def test_every_epoch_shows_every_picture_once_across_batches(dataset: Dataset) -> None:
    """50 pictures in batches of 24: batches cross the ends of epochs, and nothing is dropped or repeated."""
    seen = [image for batch in take(Stream(dataset, BATCH, 0), 0, 25) for image in batch.images.numpy()]
    every = sorted(decode(dataset.read(i), dataset.size).tobytes() for i in range(len(dataset)))
    for epoch in range(12):
        assert sorted(image.tobytes() for image in seen[epoch * 50 : (epoch + 1) * 50]) == every


def test_any_position_at_once(dataset: Dataset) -> None:
    far = 10**9 // BATCH
    assert_equal(take(Stream(dataset, BATCH, 0), far, 3)[2], take(Stream(dataset, BATCH, 0), far + 2, 1)[0])


def test_a_batch_is_what_the_data_set_says(dataset: Dataset) -> None:
    batch = take(Stream(dataset, BATCH, 0), 0, 1)[0]
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (BATCH, 3, 16, 16)
    labels = np.asarray(dataset.labels)
    for row, image in enumerate(batch.images.numpy()):
        same = [i for i in range(len(dataset)) if np.array_equal(decode(dataset.read(i), 16), image)]
        assert any(np.array_equal(labels[i], batch.label[row]) for i in same)
    assert batch.has_wrong.all()
    assert batch.wrong_count == BATCH
    assert (batch.label != batch.wrong_label).any(1).all()


def test_the_stream_crosses_process_borders(dataset: Dataset) -> None:
    """Workers are spawned on macOS: the stream must pickle, without its memory maps."""
    stream = Stream(dataset, BATCH, 0)
    data = pickle.dumps(stream)
    assert len(data) < 2_000
    assert_equal(pickle.loads(data)[3], stream[3])


def test_sizes_that_cannot_be_shared_are_named() -> None:
    check_division(64, 4, 2)
    with pytest.raises(
        UserError, match=r"--batch 30 cannot be shared by 4 processes x 1 accumulation steps; use 28 or 32$"
    ):
        check_division(30, 4, 1)
    with pytest.raises(UserError, match=r"use 4$"):
        check_division(3, 4, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_decoded_pixels_are_pillows(form: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path = tmp_path / "picture"
    Image.fromarray(pixels).save(path, form)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decode(path.read_bytes(), 16), expected)


def test_what_cannot_be_decoded_is_said() -> None:
    for data in (b"", b"no picture", b"\xff\xd8 no jpeg either"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decode(data, 16)


def test_a_picture_of_another_size_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 12)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="is 8x12, not 16x16"):
        decode((tmp_path / "x.png").read_bytes(), 16)
