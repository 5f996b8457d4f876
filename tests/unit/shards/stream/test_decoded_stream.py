"""A stream with decoded images: the same batches, each image decoded once, by any number of processes and workers."""

from __future__ import annotations

import io
import pickle
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from unit.shards.stream.test_damaged_samples import damage
from unit.shards.stream.test_stream import assert_equal, glue, take

from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.index_in_place import IndexInPlace, index_in_place
from shards.packing.pack import Pack, pack
from shards.stream import stream as streams
from shards.stream.batch import Batch
from shards.stream.decoded_cache import plan_cache
from shards.stream.decoded_rows import DecodedRows
from shards.stream.loader import batches
from shards.stream.sampling import Sampling
from shards.stream.stream import Stream
from support import servers
from support.servers import Unreliable

BATCH, COUNT, SIZE = 24, 60, 16
FORMS = ["jpg", "png", "webp", "in place"]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The same 60 images in every format that is decoded; in place, they are resized."""
    folder = tmp_path_factory.mktemp("forms")
    write_folder(folder / "source", COUNT, SIZE)
    made = {}
    for form in FORMS[:3]:
        pack(Pack(src=folder / "source", out=folder / form, size=SIZE, workers=1, per_shard=13, format=form))
        made[form] = Dataset.open(folder / form)
    (folder / "foreign").mkdir()
    with tarfile.open(folder / "foreign" / "0.tar", "w") as tar:
        for number in range(COUNT):
            image, file = Image.effect_noise((20 + number % 9, 24), 50).convert("RGBA"), io.BytesIO()
            image.save(file, "PNG")
            for name, data in ((f"{number:03d}.png", file.getvalue()), (f"{number:03d}.cls", b"%d" % (number % 3))):
                member = tarfile.TarInfo(name)
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
    made["in place"] = index_in_place(IndexInPlace(folder / "foreign", size=SIZE, fit="pad", workers=1))
    return made


@pytest.fixture
def dataset(datasets: dict[str, Dataset]) -> Dataset:
    return datasets["jpg"]


def rows_of(dataset: Dataset, folder: Path) -> DecodedRows:
    rows, plan = plan_cache(dataset, str(folder / "decoded")).open()
    assert rows is not None, plan.reason
    return rows


def assert_all_equal(found: list[Batch], expected: list[Batch]) -> None:
    for batch, other in zip(found, expected, strict=True):
        assert_equal(batch, other)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("an image is decoded")

    monkeypatch.setattr(streams, "read_pixels", refuse)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("sampling", [Sampling(), Sampling("windowed", 2)], ids=["full", "windowed"])
def test_later_epochs_decode_nothing_and_are_the_same(
    datasets: dict[str, Dataset], form: str, sampling: Sampling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = datasets[form]
    expected = take(Stream(dataset, BATCH, 1, sampling=sampling), 0, 9)
    rows = rows_of(dataset, tmp_path)
    assert_all_equal(take(Stream(dataset, BATCH, 1, sampling=sampling, decoded=rows), 0, 3), expected[:3])
    assert rows.filled == COUNT
    forbid_decoding(monkeypatch)
    assert_all_equal(take(Stream(dataset, BATCH, 1, sampling=sampling, decoded=rows), 3, 6), expected[3:])


@pytest.mark.parametrize(("world", "workers"), [(2, 0), (3, 2), (1, 4)])
def test_processes_and_workers_share_what_is_partly_filled(
    dataset: Dataset, world: int, workers: int, tmp_path: Path
) -> None:
    expected = take(Stream(dataset, BATCH, 5), 0, 6)
    Stream(dataset, BATCH, 5, decoded=rows_of(dataset, tmp_path))[0]
    shares = [
        take(Stream(dataset, BATCH, 5, rank, world, decoded=rows_of(dataset, tmp_path)), 0, 6, workers)
        for rank in range(world)
    ]
    for number in range(6):
        assert_equal(glue([share[number] for share in shares]), expected[number])
    assert rows_of(dataset, tmp_path).filled == COUNT


def test_a_spawned_worker_opens_the_rows_again(dataset: Dataset, tmp_path: Path) -> None:
    rows = rows_of(dataset, tmp_path)
    spawned = pickle.loads(pickle.dumps(Stream(dataset, BATCH, 5, decoded=rows)))
    assert_all_equal(take(spawned, 0, 3), take(Stream(dataset, BATCH, 5), 0, 3))
    assert rows.filled == COUNT


def test_a_damaged_row_is_decoded_and_written_again(dataset: Dataset, tmp_path: Path) -> None:
    expected = take(Stream(dataset, BATCH, 1), 0, 6)
    rows = rows_of(dataset, tmp_path)
    take(Stream(dataset, BATCH, 1, decoded=rows), 0, 3)
    whole = rows.path.read_bytes()
    with rows.path.open("r+b") as file:
        for at in range(0, len(whole), 500):
            file.seek(at)
            file.write(bytes([whole[at] ^ 16]))
    assert_all_equal(take(Stream(dataset, BATCH, 1, decoded=rows), 0, 6), expected)
    assert rows.path.read_bytes()[:480] == whole[:480], "the checksums"
    assert rows.path.read_bytes()[4096:] == whole[4096:], "the rows"


def test_damaged_images_are_replaced_in_every_epoch_and_never_kept(dataset: Dataset, tmp_path: Path) -> None:
    damaged = damage(dataset, tmp_path)
    expected = take(Stream(damaged, BATCH, 2), 0, 8)
    rows = rows_of(damaged, tmp_path)
    assert_all_equal(take(Stream(damaged, BATCH, 2, decoded=rows), 0, 8), expected)
    assert sum(batch.damaged for batch in expected) >= 9
    assert rows.filled == COUNT - 3


def test_a_cache_that_is_lost_in_the_middle_changes_nothing(dataset: Dataset, tmp_path: Path) -> None:
    expected = take(Stream(dataset, BATCH, 1), 0, 6)
    rows = rows_of(dataset, tmp_path)
    found = batches(Stream(dataset, BATCH, 1, decoded=rows), 0, 1)
    for number, batch in enumerate(expected):
        if number == 2:
            rows.path.unlink()
        assert_equal(next(found), batch)


@pytest.fixture
def server(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:
    for name, value in {**servers.HASTE, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)
    server = Unreliable(dataset.path)
    yield server
    server.close()


def test_shards_of_a_server_are_not_fetched_for_images_that_are_kept(
    dataset: Dataset, server: Unreliable, tmp_path: Path
) -> None:
    remote = Dataset.open(server.url, cache=tmp_path / "cache")
    take(Stream(remote, BATCH, 1, decoded=rows_of(remote, tmp_path)), 0, 3)
    other = Dataset.open(server.url, cache=tmp_path / "another")
    fetched = len(server.gets(dataset.shards[0].name))
    expected = take(Stream(dataset, BATCH, 7), 0, 5)
    assert_all_equal(take(Stream(other, BATCH, 7, decoded=rows_of(other, tmp_path)), 0, 5), expected)
    assert fetched == 1 == len(server.gets(dataset.shards[0].name))
    assert not list((tmp_path / "another").rglob("*.tar"))


def test_shards_are_prefetched_for_images_that_must_be_decoded(
    server: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Dataset.open(server.url, cache=tmp_path / "cache")
    asked: list[list[int]] = []
    monkeypatch.setattr(remote, "prefetch", lambda shards: asked.append(list(shards)))
    stream = Stream(remote, BATCH, 1, sampling=Sampling("windowed", 2), decoded=rows_of(remote, tmp_path))
    take(stream, 0, 3)
    first = stream.order.shards_in_use(stream.positions(0))
    assert first and asked[0] == first, "decoding would otherwise wait for each shard when it comes to it"
    asked.clear()
    take(stream, 0, 3)
    assert not asked, "everything is kept"
