"""Damaged images at run time: replaced alike for every number of ranks and workers, counted, and bounded."""

from __future__ import annotations

import multiprocessing
import re
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from unit.shards.stream.test_stream import assert_equal, glue, ids, take

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from shards.stream.loader import batches
from shards.stream.sampling import Sampling
from shards.stream.stream import Stream
from support.errors import raises
from support.launching import assert_same_run, checkpoints, decoded, metrics, train

BATCH, COUNT = 24, 60
DAMAGED = (3, 17, 40)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """60 images in 5 shards, the last 20 without labels."""
    folder = tmp_path_factory.mktemp("whole")
    write_folder(folder / "source", COUNT, 16)
    table = folder / "source" / "tags.csv"
    table.write_text("\n".join(table.read_text().splitlines()[: COUNT - 20 + 1]) + "\n")
    pack(Pack(src=folder / "source", out=folder / "data", size=16, workers=1, per_shard=12))
    return Dataset.open(folder / "data")


def damage(whole: Dataset, folder: Path, samples: tuple[int, ...] = DAMAGED) -> Dataset:
    """A copy with zeros where the images of these samples lay."""
    shutil.copytree(whole.path, folder / "data")
    copy = Dataset.open(folder / "data")
    for sample in samples:
        entry = copy.entries[sample]
        with copy.shards[entry["shard"]].open("r+b") as tar:
            tar.seek(int(entry["offset"]))
            tar.write(bytes(int(entry["length"])))
    return copy


@pytest.fixture
def damaged(whole: Dataset, tmp_path: Path) -> Dataset:
    return damage(whole, tmp_path)


@pytest.mark.parametrize(("world", "workers"), [(1, 4), (2, 0), (3, 1), (4, 0), (6, 0), (8, 0)])
@pytest.mark.parametrize("sampling", [Sampling(), Sampling("windowed", 2, 0.25)], ids=["plain", "windowed quota"])
def test_substitutes_do_not_depend_on_ranks_or_workers(
    damaged: Dataset, world: int, workers: int, sampling: Sampling
) -> None:
    expected = take(Stream(damaged, BATCH, 5, sampling=sampling), 1, 4)
    shares = [take(Stream(damaged, BATCH, 5, r, world, sampling), 1, 4, workers) for r in range(world)]
    for number in range(4):
        assert_equal(glue([share[number] for share in shares]), expected[number])
    assert sum(batch.damaged for batch in expected) >= 3


def test_a_substitute_keeps_the_counts_and_brings_its_own_label(whole: Dataset, damaged: Dataset) -> None:
    stream = Stream(damaged, BATCH, 2)
    samples_of: dict[bytes, list[int]] = {}
    for i in range(COUNT):
        samples_of.setdefault(decoded(whole.read(i), 16).tobytes(), []).append(i)
    labels, known = np.asarray(whole.labels), np.asarray(whole.known)
    replaced = 0
    for number, (batch, before) in enumerate(
        zip(take(stream, 0, 20), take(Stream(whole, BATCH, 2), 0, 20), strict=True)
    ):
        drawn = ids(stream, number, 1)[0]
        assert batch.damaged == np.isin(drawn, DAMAGED).sum()
        assert batch.wrong_count == before.wrong_count == int(batch.has_wrong.sum())
        assert torch.equal(batch.has_wrong, before.has_wrong)
        for row, sample in enumerate(drawn.tolist()):
            same = samples_of[batch.images[row].numpy().tobytes()]  # some of the drawn shapes are equal
            label, mask = batch.labels[row], batch.known[row]
            assert any(np.array_equal(labels[i], label) and np.array_equal(known[i], mask) for i in same)
            assert bool(batch.known[row].any()) == known[sample].any()
            if sample not in DAMAGED:
                assert sample in same and np.array_equal(labels[sample], batch.labels[row])
                continue
            replaced += 1
            if batch.has_wrong[row]:
                both = batch.known[row].bool() & batch.wrong_known[row].bool()
                starts = whole.schema.starts.tolist()
                ends = [*starts[1:], whole.schema.width]
                assert any(
                    both[a] and not torch.equal(batch.labels[row, s:e], batch.wrong_labels[row, s:e])
                    for a, (s, e) in enumerate(zip(starts, ends, strict=True))
                )
    assert replaced == 20 * BATCH * len(DAMAGED) // COUNT


def test_the_first_damaged_sample_is_named(damaged: Dataset) -> None:
    batch = next(b for b in take(Stream(damaged, BATCH, 0), 0, 10, workers=1) if b.damaged)
    found = re.fullmatch(r"(\S+\.tar), sample (\d+): .*", batch.first_damage)
    assert found and int(found[2]) in DAMAGED
    assert Path(found[1]) == damaged.shards[damaged.shard_of(int(found[2]))]


def test_a_shard_that_became_shorter_is_damage(damaged: Dataset) -> None:
    shard = damaged.shards[4]
    with shard.open("r+b") as tar:
        tar.truncate(int(damaged.entries[-6]["offset"]))
    drawn = take(Stream(damaged, 60, 0), 0, 1)[0]
    assert drawn.damaged == len(DAMAGED) + 6


@pytest.mark.parametrize("workers", [0, 1])
def test_where_nothing_can_stand_in_the_run_ends_by_a_sentence(whole: Dataset, tmp_path: Path, workers: int) -> None:
    ruin = damage(whole, tmp_path, tuple(range(COUNT)))
    with raises("no-replacement-sample", ".tar, sample ", "cannot be decoded", kind=Failure):
        take(Stream(ruin, BATCH, 0), 0, 1, workers)


class Broken(Stream):
    """A stream whose shards cannot be had."""

    kind: type[UserError] = Failure

    def fill(self, number: int, pixels: np.ndarray):
        raise self.kind("bucket-missing", "s3://there: no such bucket;\nname another")


class Mistaken(Broken):
    kind = UserError


@pytest.mark.parametrize("broken", [Broken, Mistaken])
@pytest.mark.parametrize("workers", [0, 2])
def test_an_error_in_a_worker_arrives_as_its_sentence(whole: Dataset, broken: type[Broken], workers: int) -> None:
    stream: Iterator = batches(broken(whole, BATCH, 0), 0, workers)
    before = set(multiprocessing.active_children())
    with raises("bucket-missing") as caught:
        next(islice(stream, 1))
    # The workers are gone, although the error and its traceback are kept.
    assert set(multiprocessing.active_children()) <= before
    assert type(caught.value) is broken.kind
    assert str(caught.value) == "s3://there: no such bucket;\nname another"


# ---------------------------------------------------------------- the trainer

SHORT = "--preset smoke --batch 12 --log-every 24 --grid-every 10000 --workers 1 --threads 1 --log-with none".split()


@pytest.mark.long
def test_a_run_counts_damaged_images_and_goes_on_bit_identically(damaged: Dataset, tmp_path: Path) -> None:
    words = [*SHORT, "--shards", damaged.path, "--damaged-limit", 0.5]
    train(*words, "--run", tmp_path / "one", "--total-images", 120, "--checkpoint-every", 10_000)
    train(*words, "--run", tmp_path / "two", "--total-images", 72, "--checkpoint-every", 36)
    train(*words, "--run", tmp_path / "two", "--total-images", 120, "--checkpoint-every", 10_000)
    assert_same_run(tmp_path / "one", tmp_path / "two")
    assert [row["data/damaged"] for row in metrics(tmp_path / "one")][-1] == 6  # two epochs of three


@pytest.mark.parametrize("processes", [0, pytest.param(2, marks=pytest.mark.long)])
def test_too_much_damage_ends_all_processes_saved(damaged: Dataset, tmp_path: Path, processes: int) -> None:
    words = [*SHORT, "--shards", damaged.path, "--run", tmp_path / "run", "--total-images", 1_200]
    done = train(*words, processes=processes, expect=None)
    assert done.returncode == 1
    said = [
        line
        for line in done.stderr.splitlines()
        if line.startswith("error: ") and line.endswith("[damaged-images]") and "--damaged-limit 0.001" in line
    ]
    assert len(said) == 1, "one process says it"
    assert re.search(r"\(first \S+\.tar, sample (3|17|40): ", said[0])
    assert "Traceback" not in done.stderr or processes, "the launcher adds its own"
    assert len(checkpoints(tmp_path / "run")) == 1
    assert f"saved at {int(checkpoints(tmp_path / 'run')[0])} images" in said[0]
