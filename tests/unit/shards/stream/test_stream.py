"""The stream: the same global batches for every number of ranks and workers, from any position on."""

from __future__ import annotations

import hashlib
import os
import pickle
import random
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from shards.stream.batch import Batch
from shards.stream.loader import batches
from shards.stream.sampling import Sampling, check_cache, check_division, describe
from shards.stream.stream import Stream
from support.errors import raises
from support.launching import ROOT, decoded, make_dataset

BATCH = 24


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("stream"), count=50, per_shard=16)


@pytest.fixture(scope="module")
def half_labelled(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """90 images in 12 shards: 30 with labels, 60 without a row."""
    folder = tmp_path_factory.mktemp("half")
    write_folder(folder / "source", 90, 16)
    table = folder / "source" / "tags.csv"
    table.write_text("\n".join(table.read_text().splitlines()[:31]) + "\n")
    pack(Pack(src=folder / "source", out=folder / "data", size=16, workers=1, per_shard=8))
    return Dataset.open(folder / "data")


def attribute(dataset: Dataset) -> str:
    return dataset.schema.attributes[0].name


def samplings(dataset: Dataset) -> list[Sampling]:
    return [
        Sampling(),
        Sampling("windowed", 2),
        Sampling(unlabelled_fraction=0.25),
        Sampling(balance=attribute(dataset)),
        Sampling("windowed", 3, 0.25, attribute(dataset)),
    ]


def take(stream: Stream, start: int, count: int, workers: int = 0) -> list[Batch]:
    return list(islice(batches(stream, start, workers), count))


def glue(shares: list[Batch]) -> Batch:
    """The global batch of its ranks' shares."""
    tensors = {name: torch.cat([getattr(share, name) for share in shares]) for name in Batch._fields[:7]}
    assert len({share.wrong_count for share in shares}) == 1, "every rank knows the global count"
    first = next((share.first_damage for share in shares if share.first_damage), "")
    damaged = sum(share.damaged for share in shares)
    return Batch(**tensors, wrong_count=shares[0].wrong_count, damaged=damaged, first_damage=first, lost_worker="")


def assert_equal(one: Batch, other: Batch) -> None:
    for name, a, b in zip(Batch._fields, one, other, strict=True):
        same = torch.equal(a, b) if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor) else a == b
        assert same, name


def ids(stream: Stream, start: int, count: int) -> np.ndarray:
    """The sample ids of ``count`` global batches, (count, B)."""
    return np.stack([stream.order(stream.positions(number)) for number in range(start, start + count)])


WAYS = ["full", "windowed", "quota", "balance", "all"]  # of `samplings`


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("world", [1, 2, 3, 4, 6, 8])
@pytest.mark.parametrize("workers", [0, 1, 4])
def test_trap_global_batches_do_not_depend_on_ranks_or_workers(
    half_labelled: Dataset, way: str, world: int, workers: int
) -> None:
    sampling = samplings(half_labelled)[WAYS.index(way)]
    expected = take(Stream(half_labelled, BATCH, 5, sampling=sampling), 7, 3)
    shares = [take(Stream(half_labelled, BATCH, 5, rank, world, sampling), 7, 3, workers) for rank in range(world)]
    for number in range(3):
        assert_equal(glue([share[number] for share in shares]), expected[number])


def test_trap_every_epoch_shows_every_image_once_across_batches(dataset: Dataset) -> None:
    """50 images in batches of 24: batches cross the ends of epochs, and nothing is dropped or repeated."""
    seen = [image for batch in take(Stream(dataset, BATCH, 0), 0, 25) for image in batch.images.numpy()]
    every = sorted(decoded(dataset.read(i), dataset.size).tobytes() for i in range(len(dataset)))
    for epoch in range(12):
        assert sorted(image.tobytes() for image in seen[epoch * 50 : (epoch + 1) * 50]) == every


def test_the_labelled_find_wrong_labels_among_many_unlabelled(half_labelled: Dataset) -> None:
    """Of 90 images 30 have labels: as likely a contradiction as if there were only those."""
    batches = take(Stream(half_labelled, 90, 0), 0, 4)
    labelled = torch.cat([batch.known.any(1) for batch in batches])
    found = torch.cat([batch.has_wrong for batch in batches]).bool()
    assert labelled.sum() == 120 and torch.equal(found, labelled)


def test_windows_use_few_shards_at_a_time(half_labelled: Dataset) -> None:
    stream = Stream(half_labelled, 8, 0, sampling=Sampling("windowed", 2))
    drawn = ids(stream, 0, 45).ravel().reshape(-1, 90)
    for epoch in drawn:
        assert np.array_equal(np.sort(epoch), np.arange(90))
        shards = np.searchsorted(half_labelled.shard_bounds, epoch, side="right") - 1
        changes = [set(shards[start : start + 8].tolist()) for start in range(0, 90, 8)]
        assert max(len(some) for some in changes) <= 4, "two windows at most, where one goes over into the next"


@pytest.mark.parametrize("form", ["full", "windowed"])
def test_the_quota_holds_in_every_global_batch(half_labelled: Dataset, form: str) -> None:
    known = np.count_nonzero(half_labelled.known, axis=1) > 0
    stream = Stream(half_labelled, BATCH, 1, sampling=Sampling(form, 2, unlabelled_fraction=0.25))
    drawn = ids(stream, 0, 20)
    assert ((~known[drawn]).sum(axis=1) == 6).all()
    unlabelled = drawn[~known[drawn]]
    for epoch in range(2):
        assert len(set(unlabelled[epoch * 60 : (epoch + 1) * 60].tolist())) == 60
    labelled_only = ids(Stream(half_labelled, BATCH, 1, sampling=Sampling(form, 2, unlabelled_fraction=0)), 0, 5)
    assert np.array_equal(np.bincount(labelled_only.ravel(), minlength=90), known * 4)


def test_balance_shows_all_values_equally_often(half_labelled: Dataset) -> None:
    name = attribute(half_labelled)
    sampling = Sampling(balance=name)
    stream = Stream(half_labelled, BATCH, 1, sampling=sampling)
    drawn = ids(stream, 0, 500).ravel()
    width = half_labelled.schema.widths[0]
    counts = np.asarray(half_labelled.labels)[drawn, :width].sum(axis=0)
    natural = np.asarray(half_labelled.labels)[:, :width].sum(axis=0)
    assert natural.max() > 1.3 * natural.min()
    assert counts.max() - counts.min() <= 4, "a cycle's worth at most"
    unknown = ~np.asarray(half_labelled.known)[:, 0]
    assert unknown[drawn].mean() == pytest.approx(unknown.mean(), rel=0.02)
    epoch = stream.order.epoch_length()
    assert len(set(drawn[:epoch].tolist())) == 90
    line = describe(stream.order, sampling, half_labelled, BATCH)
    assert f"balanced by {name}; " in line and f" {epoch:,} images" in line


def test_what_a_data_set_does_not_have_cannot_be_drawn(dataset: Dataset, half_labelled: Dataset) -> None:
    with raises("unknown-attribute", "--balance hair", "ink, shape"):
        Stream(dataset, BATCH, 0, sampling=Sampling(balance="hair"))
    with raises("no-unlabelled-images", "--unlabelled-share 0.5", dataset.where):
        Stream(dataset, BATCH, 0, sampling=Sampling(unlabelled_fraction=0.5))
    with raises("invalid-value", "--unlabelled-share 0.001", "0.0417", "0.958"):
        Stream(half_labelled, BATCH, 0, sampling=Sampling(unlabelled_fraction=0.001))


def test_a_window_must_fit_into_the_cache(half_labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(half_labelled, "remote", True)
    sampling, largest = Sampling("windowed", 2), int(half_labelled.shard_bytes.max())
    order = Stream(half_labelled, 8, 0, sampling=sampling).order
    beside = half_labelled.sidecar_bytes  # index and labels stay in the cache too
    check_cache(order, sampling, half_labelled, 5 * largest + beside)
    with raises("cache-too-small", "--window 2", "--window 1"):
        check_cache(order, sampling, half_labelled, 4 * largest + beside)
    with raises("cache-too-small", "--window 2", "raise --cache-limit") as caught:
        check_cache(order, sampling, half_labelled, largest + beside)
    assert "--window 1" not in str(caught.value)


def test_coming_shards_are_named_when_they_change(half_labelled: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []
    stream = Stream(half_labelled, 8, 0, sampling=Sampling("windowed", 2))
    monkeypatch.setattr(half_labelled, "remote", True)
    monkeypatch.setattr(half_labelled, "prefetch", asked.append)
    for number in range(24):
        used = {half_labelled.shard_of(i) for i in ids(stream, number, 1).ravel().tolist()}
        stream[number]
        assert used <= set(asked[-1]), "named before they are read"
    assert 10 < len(asked) < 24


def test_any_position_at_once(dataset: Dataset) -> None:
    far = 10**9 // BATCH
    assert_equal(take(Stream(dataset, BATCH, 0), far, 3)[2], take(Stream(dataset, BATCH, 0), far + 2, 1)[0])


def test_batches_from_random_steps_on_are_those_of_one_long_run(half_labelled: Dataset) -> None:
    for sampling in samplings(half_labelled):
        whole = take(Stream(half_labelled, BATCH, 3, sampling=sampling), 0, 20)
        for start in random.Random(0).sample(range(18), 3):
            for offset, batch in enumerate(take(Stream(half_labelled, BATCH, 3, sampling=sampling), start, 2)):
                assert_equal(batch, whole[start + offset])


READ = """
import hashlib, sys
from shards.dataset.dataset import Dataset
from shards.stream.sampling import Sampling
from shards.stream.loader import batches
from shards.stream.stream import Stream

if __name__ == "__main__":
    path, order, start = sys.argv[1], sys.argv[2], int(sys.argv[3])
    stream = Stream(Dataset.open(path), 24, 9, sampling=Sampling(order, 2))
    for number, batch in enumerate(batches(stream, start, workers=2), start):
        digest = hashlib.sha256(batch.images.numpy().tobytes() + batch.wrong_labels.numpy().tobytes())
        print(number, digest.hexdigest(), flush=True)
"""


@pytest.mark.parametrize("form", ["full", "windowed"])
def test_pixels_after_a_kill_are_those_of_a_run_that_was_not(half_labelled: Dataset, tmp_path: Path, form: str) -> None:
    """kill -9 at random moments; each next process goes on behind the last batch that the one before reported."""
    (tmp_path / "read.py").write_text(READ)
    lines: list[str] = []
    for life in (3, 8, 5):
        command = [sys.executable, str(tmp_path / "read.py"), str(half_labelled.path), form, str(len(lines))]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, env=os.environ) as process:
            assert process.stdout is not None
            lines += [process.stdout.readline() for _ in range(life)]
            process.send_signal(signal.SIGKILL)
    stream = Stream(half_labelled, BATCH, 9, sampling=Sampling(form, 2))
    for number, (line, batch) in enumerate(zip(lines, take(stream, 0, 16), strict=True)):
        digest = hashlib.sha256(batch.images.numpy().tobytes() + batch.wrong_labels.numpy().tobytes())
        assert line == f"{number} {digest.hexdigest()}\n"


def test_a_batch_is_what_the_data_set_says(dataset: Dataset) -> None:
    batch = take(Stream(dataset, BATCH, 0), 0, 1)[0]
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (BATCH, 3, 16, 16)
    assert batch.images.is_contiguous(memory_format=torch.channels_last)
    assert next(batches(Stream(dataset, BATCH, 0), 0, 1)).images.is_contiguous(memory_format=torch.channels_last)
    labels = np.asarray(dataset.labels)
    for row, image in enumerate(batch.images.numpy()):
        same = [i for i in range(len(dataset)) if np.array_equal(decoded(dataset.read(i), 16), image)]
        assert any(np.array_equal(labels[i], batch.labels[row]) for i in same)
    assert batch.has_wrong.all()
    assert batch.wrong_count == BATCH
    assert (batch.labels != batch.wrong_labels).any(1).all()


def test_hard_wrong_labels_differ_in_one_attribute(dataset: Dataset) -> None:
    batch = Stream(dataset, BATCH, 0, wrong="hard")[2]
    differ = np.logical_or.reduceat((batch.labels != batch.wrong_labels).numpy(), dataset.schema.starts, axis=1)
    assert batch.has_wrong.all() and (differ.sum(axis=1) == 1).all()
    assert torch.equal(batch.wrong_known, batch.known)
    plain = Stream(dataset, BATCH, 0)[2]
    assert torch.equal(plain.images, batch.images) and not torch.equal(plain.wrong_labels, batch.wrong_labels)


def test_the_stream_crosses_process_borders(dataset: Dataset) -> None:
    """Workers are spawned on macOS: the stream must pickle, without its memory maps."""
    stream = Stream(dataset, BATCH, 0)
    data = pickle.dumps(stream)
    assert len(data) < 2_000
    assert_equal(pickle.loads(data)[3], stream[3])


def test_sizes_that_cannot_be_shared_are_named() -> None:
    check_division(64, 4, 2)
    with raises("batch-not-divisible", "--batch 30", "28 or 32"):
        check_division(30, 4, 1)
    with raises("batch-not-divisible", "--batch 3", "use 4"):
        check_division(3, 4, 1)


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP"])
def test_decoded_pixels_are_pillows(form: str, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)
    path = tmp_path / "image"
    Image.fromarray(pixels).save(path, form)
    with Image.open(path) as image:
        expected = np.asarray(image.convert("RGB")).transpose(2, 0, 1)
    assert np.array_equal(decoded(path.read_bytes(), 16), expected)


def test_what_cannot_be_decoded_is_said() -> None:
    for data in (b"", b"no image", b"\xff\xd8 no jpeg either"):
        with pytest.raises(ValueError, match="cannot be decoded"):
            decoded(data, 16)


def test_an_image_of_another_size_is_said(tmp_path: Path) -> None:
    Image.new("RGB", (8, 12)).save(tmp_path / "x.png")
    with pytest.raises(ValueError, match="is 8x12, not 16x16"):
        decoded((tmp_path / "x.png").read_bytes(), 16)
