"""The cache: files are fetched once, verified, shared by processes, and evicted when space is needed."""

from __future__ import annotations

import fcntl
import gc
import json
import multiprocessing
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.remote import cache
from shards.remote.cache import CachedDataset, FileRecord
from shards.remote.location import Location
from support import servers
from support.errors import raises
from support.launching import make_dataset
from support.servers import Unreliable


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("cache"), count=48, size=16, per_shard=8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**servers.HASTE, "NO_PROXY": "127.0.0.1"}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server(local: Dataset) -> Iterator[Unreliable]:
    server = Unreliable(local.path)
    yield server
    server.close()


def images(dataset: Dataset) -> list[bytes]:
    return [dataset.read(i) for i in range(len(dataset))]


def cached_shards(folder: Path) -> list[str]:
    """Return the names of the shards in a cache."""
    return sorted(path.name for path in folder.rglob("*.tar"))


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def limit_for(dataset: Dataset, shards: float) -> int:
    """Return a cache limit for the sidecars and that many shards."""
    names = ("manifest.json", "index.npy", "labels.npy", "known.npy")
    return sum((dataset.path / name).stat().st_size for name in names) + int(shards * dataset.shard_bytes.max())


def test_a_folder_behind_a_cache(local: Dataset, tmp_path: Path) -> None:
    dataset = Dataset.open(local.path, cache=tmp_path)
    assert dataset.remote and not local.remote and dataset.where == str(local.path)
    assert cached_shards(tmp_path) == []
    dataset.read(0)
    assert cached_shards(tmp_path) == [local.shards[0].name], "whole shards, when they are read"
    assert images(dataset) == images(local) and dataset.fingerprint == local.fingerprint
    with raises("dataset-missing", tmp_path / "none"):
        Dataset.open(tmp_path / "none", cache=tmp_path)


def test_a_cache_smaller_than_the_dataset(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    limit = limit_for(local, 2.5)
    dataset = Dataset.open(server.url, cache=tmp_path, limit_bytes=limit)
    for i in range(len(dataset)):
        assert dataset.read(i) == local.read(i)
        assert size(tmp_path) <= limit
    assert [len(server.gets(path.name)) for path in local.shards] == [1] * 6, "read in order, each is fetched once"
    assert cached_shards(tmp_path) == [path.name for path in local.shards[-2:]], "the ones used last are left"


def test_the_least_recently_used_is_evicted(local: Dataset, tmp_path: Path) -> None:
    dataset = Dataset.open(local.path, cache=tmp_path, limit_bytes=limit_for(local, 2.5))
    names = [path.name for path in local.shards]
    for i in (0, 8):
        dataset.read(i)
    again = pickle.loads(pickle.dumps(dataset))
    again.read(0)  # opens the file again: used later than shard 1
    again.read(16)
    assert cached_shards(tmp_path) == [names[0], names[2]]
    assert dataset.read(9) == local.read(9), "an open file stays readable after its eviction"


def test_a_limit_that_is_too_small_is_an_error(local: Dataset, tmp_path: Path) -> None:
    with raises("cache-too-small", local.path, "--cache-limit"):
        Dataset.open(local.path, cache=tmp_path, limit_bytes=limit_for(local, 0.5))
    cached, _ = CachedDataset.create(Location.of_folder(local.path), tmp_path, 1000, "manifest.json")
    with raises("cache-too-small", "x.tar", "1,001", "1,000"):
        cached.open(FileRecord("x.tar", 1001, "0" * 64))


def test_other_files_near_the_cache_are_left_alone(local: Dataset, tmp_path: Path) -> None:
    """A directory with other content may be given as --cache."""
    for name in ("mine.tar", "folder/mine.tar", f"like-{'0' * 24}/mine.tar"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(bytes(10**6))
    images(Dataset.open(local.path, cache=tmp_path, limit_bytes=limit_for(local, 1)))
    assert len(list(tmp_path.rglob("mine.tar"))) == 3


def test_trap_two_datasets_with_the_same_names(local: Dataset, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", count=48, size=16, per_shard=6)
    assert {path.name for path in local.shards} & {path.name for path in other.shards}
    for dataset in (local, other):
        assert images(Dataset.open(dataset.path, cache=tmp_path / "cache")) == images(dataset)


def test_a_dataset_that_changed_is_not_mixed_up(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    images(Dataset.open(server.url, cache=tmp_path / "cache"))
    other = make_dataset(tmp_path / "other", count=30, size=16, per_shard=8)
    server.source = other.path
    assert images(Dataset.open(server.url, cache=tmp_path / "cache")) == images(other)


@pytest.mark.parametrize("damage", ["flip", "shorten", "empty"])
def test_an_altered_cached_file_is_found(local: Dataset, server: Unreliable, damage: str, tmp_path: Path) -> None:
    images(Dataset.open(server.url, cache=tmp_path))
    shard = next(tmp_path.rglob(local.shards[2].name))
    data = bytearray(shard.read_bytes())
    data[700] ^= 255
    shard.write_bytes({"flip": data, "shorten": data[:-1], "empty": b""}[damage])
    assert images(Dataset.open(server.url, cache=tmp_path)) == images(local)
    assert [len(server.gets(path.name)) for path in local.shards] == [1, 1, 2, 1, 1, 1]


def test_a_file_that_is_only_touched_is_not_fetched_again(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    images(Dataset.open(server.url, cache=tmp_path))
    for path in tmp_path.rglob("*.tar"):
        path.touch()
    count = sum(len(server.gets(path.name)) for path in local.shards)
    assert images(Dataset.open(server.url, cache=tmp_path)) == images(local)
    assert sum(len(server.gets(path.name)) for path in local.shards) == count
    assert all(path.stat().st_mtime < 10**9 for path in tmp_path.rglob("*.tar")), "verified again"


def test_a_wrong_hash_is_retried_once(local: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in local.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    wrong = bytearray(local.shards[0].read_bytes())
    wrong[600] ^= 1
    (folder / local.shards[0].name).write_bytes(wrong)
    server = Unreliable(folder)
    dataset = Dataset.open(server.url, cache=tmp_path / "cache")
    with raises("hash-mismatch", local.shards[0].name, kind=Failure):
        dataset.read(0)
    assert len(server.gets(local.shards[0].name)) == 2
    assert not list((tmp_path / "cache").rglob("*.part")), "nothing of it is kept"
    server.close()


def test_sidecars_that_do_not_fit_are_not_fetched(local: Dataset, tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    for path in local.path.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / "labels.npy").write_bytes(bytes(10**6))
    with raises("sidecar-damaged", "labels.npy"):
        Dataset.open(folder, cache=tmp_path / "cache")
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["sidecars"]["labels.npy"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with raises("manifest-invalid", "sha256 of labels.npy"):
        Dataset.open(folder, cache=tmp_path / "cache")


def test_many_processes_fetch_each_file_once(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    server.fault = lambda method, path, before: "slow" if path.endswith(".tar") else None
    with multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn").Pool(3) as pool:
        found = pool.starmap(_read_all, [(server.url, tmp_path)] * 3)
    assert found == [images(local)] * 3
    for name in ["index.npy", "labels.npy", "known.npy", *(path.name for path in local.shards)]:
        assert len(server.gets(name)) == 1, name


def _read_all(url: str, folder: Path) -> list[bytes]:
    return images(Dataset.open(url, cache=folder))


@pytest.mark.long
def test_many_processes_in_a_cache_for_two_shards(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    limit = limit_for(local, 2.2)
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        found = pool.starmap(_read_turned, [(server.url, tmp_path, limit, turn) for turn in range(3)])
    assert found == [True] * 3
    assert size(tmp_path) <= limit


def _read_turned(url: str, folder: Path, limit: int, turn: int) -> bool:
    """Read everything from another start, so that the processes need different shards at a time."""
    dataset = Dataset.open(url, cache=folder, limit_bytes=limit)
    order = [(i + 16 * turn) % len(dataset) for i in range(len(dataset))]
    return all(len(dataset.read(i)) == int(dataset.entries[i]["length"]) for i in order)


def test_killed_while_fetching_resumes_by_range(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    server.fault = lambda method, path, before: "stall" if path.endswith(local.shards[0].name) and before == 0 else None
    opened = f"Dataset.open({server.url!r}, cache={str(tmp_path)!r})"
    script = f"from shards.dataset.dataset import Dataset; {opened}.read(0)"
    child = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "CGAN_REMOTE_STALL": "60"})
    half = int(local.shard_bytes[0]) // 2
    for _ in range(600):
        partial = next(tmp_path.rglob("*.tar.*.part"), None)
        if partial and partial.stat().st_size >= half:
            break
        time.sleep(0.05)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert images(Dataset.open(server.url, cache=tmp_path)) == images(local)
    ranges = server.gets(local.shards[0].name)
    assert len(ranges) == 2 and ranges[1].startswith(f"bytes={half}-"), "only what was missing"
    assert not list(tmp_path.rglob("*.part"))


def test_waiting_for_a_stuck_lock_holder_ends(local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CGAN_REMOTE_DEADLINE", "0.5")
    monkeypatch.setenv("CGAN_REMOTE_STALL", "0.5")
    dataset = Dataset.open(local.path, cache=tmp_path)
    partial = dataset.path / f".{local.shards[0].name}.{local.shard_bytes[0]}.part"
    with partial.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with raises("cache-locked", local.shards[0].name, kind=Failure):
            dataset.read(0)
    assert dataset.read(0) == local.read(0), "the lock is released with its holder"


def test_requested_shards_are_prefetched(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    local.prefetch([0, 1])  # a local dataset: nothing to do
    dataset = Dataset.open(server.url, cache=tmp_path)
    dataset.prefetch([3, 1])
    for _ in range(200):
        if len(cached_shards(tmp_path)) == 2:
            break
        time.sleep(0.05)
    assert cached_shards(tmp_path) == [local.shards[1].name, local.shards[3].name]
    server.fault = lambda method, path, before: 500
    dataset.prefetch([0])
    with raises("fetch-failed", "after 3 tries", kind=Failure):
        dataset.read(0)
    server.fault = lambda method, path, before: None
    dataset.prefetch([5])
    assert images(dataset) == images(local), "errors of prefetching are forgotten"


def test_a_dropped_dataset_leaves_no_thread(local: Dataset, tmp_path: Path) -> None:
    def fetching() -> int:
        return sum(thread.name == "prefetch" for thread in threading.enumerate())

    before = fetching()
    dataset = Dataset.open(local.path, cache=tmp_path)
    dataset.prefetch([0])
    assert fetching() == before + 1
    del dataset
    gc.collect()
    end = time.monotonic() + 10
    while fetching() > before:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_sidecars_in_use_stay(local: Dataset, tmp_path: Path) -> None:
    other = make_dataset(tmp_path / "other", count=48, size=16, per_shard=6)
    limit = limit_for(local, 1.2) + limit_for(other, 0)
    dataset = Dataset.open(local.path, cache=tmp_path / "c", limit_bytes=limit)
    images(Dataset.open(other.path, cache=tmp_path / "c", limit_bytes=limit))
    assert images(pickle.loads(pickle.dumps(dataset))) == images(local)


def test_a_fork_while_fetching_does_not_keep_the_lock(
    local: Dataset, server: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker forked while a thread fetches inherits the lock's descriptor; it must not outlive the attempt."""
    monkeypatch.setenv("CGAN_REMOTE_TRIES", "1")
    monkeypatch.setenv("CGAN_REMOTE_STALL", "1")
    server.fault = lambda method, path, before: "stall" if path.endswith(".tar") and before == 0 else None
    dataset = Dataset.open(server.url, cache=tmp_path)
    dataset.prefetch([0])
    while not server.gets(local.shards[0].name):
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        assert dataset.read(0) == local.read(0)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_pickled_and_opened_without_the_network(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    dataset = Dataset.open(server.url, cache=tmp_path)
    expected = images(dataset)
    data = pickle.dumps(dataset)
    server.close()
    twin = pickle.loads(data)
    assert images(twin) == expected and twin.remote and twin.fingerprint == dataset.fingerprint


def test_a_full_disk_is_one_sentence(local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = Dataset.open(local.path, cache=tmp_path)
    with Path("/dev/full").open("wb") if Path("/dev/full").exists() else pytest.skip("no /dev/full") as full:
        write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: write(full.fileno(), data))
        with raises("disk-full", kind=Failure):
            dataset.read(0)
    monkeypatch.undo()
    assert not list(tmp_path.rglob("*.part")), "half a shard does not keep the disk full"


def test_the_default_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_cache() == tmp_path / "cgan-trainer" / "shards"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache.default_cache() == Path.home() / ".cache" / "cgan-trainer" / "shards"
