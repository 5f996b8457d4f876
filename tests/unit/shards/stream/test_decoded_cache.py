"""Whether and where decoded images are kept, what decides their pixels, and which old files are removed."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import features

from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from shards.stream import decoded_cache
from shards.stream.decoded_cache import CachePlan, plan_cache
from support.errors import raises
from support.launching import make_dataset

Mount = namedtuple("Mount", "mountpoint fstype")
NEED = 4096 + 12 * 16 * 16 * 3  # bytes of the dataset below


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("decoded"), count=12, size=16, per_shard=5)


@pytest.fixture
def dataset(source: Dataset, tmp_path: Path) -> Dataset:
    """A copy that a test may change."""
    shutil.copytree(source.path, tmp_path / "data")
    return Dataset.open(tmp_path / "data")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's cache directory."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    mount(monkeypatch, {"/": "ext4"})
    return tmp_path / "home" / "cgan-trainer" / "decoded"


def mount(monkeypatch: pytest.MonkeyPatch, kinds: dict[Any, str]) -> None:
    mounts = [Mount(str(place), kind) for place, kind in kinds.items()]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)


def path_of(plan: CachePlan) -> Path:
    assert plan.path is not None, plan.reason
    return plan.path


def test_automatic_files_are_private_to_the_user(dataset: Dataset, home: Path) -> None:
    plan = plan_cache(dataset, "auto")
    assert path_of(plan).parent == home and not home.parent.exists(), "a plan writes nothing"
    assert str(plan.path) in plan.describe()
    rows, opened = plan.open()
    assert opened == plan and rows is not None and "0% filled" in plan.describe(rows)
    assert home.stat().st_mode & 0o777 == 0o700 and path_of(plan).stat().st_mode & 0o777 == 0o600
    assert path_of(plan).stat().st_size == plan.bytes == NEED


def test_nothing_is_kept_if_it_is_off_or_in_vain(dataset: Dataset, tmp_path: Path) -> None:
    assert "--decoded-cache off" in plan_cache(dataset, "off").describe()
    write_folder(tmp_path / "source", 4, 16)
    pack(Pack(src=tmp_path / "source", out=tmp_path / "raw", size=16, workers=1, format="raw"))
    plan = plan_cache(Dataset.open(tmp_path / "raw"), "auto")
    assert plan.open() == (None, plan) and "stores pixels" in plan.describe()


@pytest.mark.parametrize("limited", ["limit", "disk", "memory"])
def test_automatic_files_must_fit(
    dataset: Dataset, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limited: str
) -> None:
    def allow(size: int) -> None:
        if limited == "limit":
            monkeypatch.setattr(decoded_cache, "LIMIT", size)
        elif limited == "memory":
            monkeypatch.setattr(decoded_cache, "_memory", lambda: 2 * size)
        else:
            found = (1, 1, 0, 0, 4 * size, 0, 0, 0, 0, 0)
            monkeypatch.setattr(os, "statvfs", lambda path: os.statvfs_result(found))

    allow(NEED)
    assert plan_cache(dataset, "auto").path
    allow(NEED - 1)
    plan = plan_cache(dataset, "auto")
    assert plan.path is None and {"limit": "the limit", "disk": str(home), "memory": "memory"}[limited] in plan.reason
    assert bool(plan_cache(dataset, str(tmp_path / "there")).path), "what is requested may use most of the disk"


def test_files_of_servers_and_in_memory_are_avoided(
    dataset: Dataset, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    mount(monkeypatch, {"/": "ext4", tmp_path: "nfs4", temporary: "xfs"})
    plan = plan_cache(dataset, "auto")
    assert path_of(plan).parent == temporary / f"cgan-trainer-{os.geteuid()}" / "decoded"
    assert plan.open()[0] is not None
    mount(monkeypatch, {"/": "ext4", tmp_path: "nfs4", temporary: "tmpfs"})
    assert "no cache directory on a local disk" in plan_cache(dataset, "auto").reason
    assert plan_cache(dataset, str(home)).path, "unless it is requested"


@pytest.mark.parametrize("foreign", ["cgan-trainer", "cgan-trainer/decoded"])
def test_another_users_directory_is_not_used(
    dataset: Dataset, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = plan_cache(dataset, "auto")
    home.mkdir(parents=True)
    if home.stat().st_uid == 0:
        os.chown(home.parent.parent / foreign, 12, 12)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    assert path_of(plan_cache(dataset, "auto")).parent == tmp_path / "cgan-trainer-4711" / "decoded"
    rows, plan = before.open()  # made before the directory was
    assert rows is None and "another user" in plan.describe()


def test_another_users_directory_cannot_be_requested(
    dataset: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home.mkdir(parents=True)
    if home.stat().st_uid == 0:
        os.chown(home, 12, 12)
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    with raises("decoded-cache-unusable", "--decoded-cache", home):
        plan_cache(dataset, str(home)).open()


def test_a_requested_directory_that_cannot_be_used_is_a_mistake(dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "inner"):
        with raises("decoded-cache-unusable", f"--decoded-cache {place}"):
            plan_cache(dataset, str(place))


def test_a_run_is_resumed_without_a_directory_that_cannot_be_used(
    dataset: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose disk filled went on without; the same command must resume it."""
    (tmp_path / "file").touch()
    there = str(tmp_path / "there")
    later = plan_cache(dataset, there, required=False)
    assert later.path is not None
    (tmp_path / "there").touch()
    full = os.statvfs_result((1, 1, 0, 0, 0, 0, 0, 0, 0, 0))
    plans = [plan_cache(dataset, str(tmp_path / "file"), required=False), later.open()[1]]
    monkeypatch.setattr(os, "statvfs", lambda path: full)
    plans.append(plan_cache(dataset, str(tmp_path), required=False))
    for plan in plans:
        assert plan.path is None and plan.reason in plan.describe()
    assert capsys.readouterr().err.count("[decoded-cache-unusable]") == 3


@pytest.mark.parametrize("taken", ["by others' files", "by decoded images"])
def test_a_requested_directory_without_enough_space_is_a_mistake(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, taken: str
) -> None:
    """Whoever names a directory expects it to be used; training on without would be slow for no visible reason."""
    place, free = tmp_path / "there", NEED * 10 // 9 + 1

    def statvfs(path: Path) -> os.statvfs_result:
        return os.statvfs_result((1, 1, 0, 0, free, 0, 0, 0, 0, 0))

    monkeypatch.setattr(os, "statvfs", statvfs)
    plan = plan_cache(dataset, str(place))
    if taken == "by others' files":
        free -= 2
        with raises("decoded-cache-unusable", f"--decoded-cache {place}", "nine tenths"):
            plan_cache(dataset, str(place))
        return
    assert plan.open()[0] is not None, "a file of its own is no obstacle"
    path_of(plan).rename(other := place / f"other-16px-{'0' * 32}.rows")
    with other.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)  # another run uses it
        with raises("decoded-cache-unusable", f"--decoded-cache {place}", "other runs"):
            plan.open()


# ---------------------------------------------------------------- what decides the pixels


def changed_manifest(**values: Any) -> Callable[[Dataset, pytest.MonkeyPatch], None]:
    def change(dataset: Dataset, _: pytest.MonkeyPatch) -> None:
        dataset.manifest.update(values)
        for name, value in values.items():
            setattr(dataset, name, value)

    return change


def repair_a_shard(dataset: Dataset, _: pytest.MonkeyPatch) -> None:
    dataset.shards[1].write_bytes(dataset.shards[1].read_bytes())


def other_index(dataset: Dataset, _: pytest.MonkeyPatch) -> None:
    del dataset.manifest["sidecars"]
    entries = np.array(dataset.entries)
    entries[[0, 1]] = entries[[1, 0]]
    dataset.entries = entries  # type: ignore[assignment]


def other_decoder(_: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_cache.metadata, "version", lambda name: "0")


def other_library(_: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "version", lambda name: "0")


CHANGES = [
    changed_manifest(fit="pad"),
    changed_manifest(background="black"),
    changed_manifest(in_place=True),
    changed_manifest(fingerprint="other"),
    repair_a_shard,
    other_index,
    other_decoder,
    other_library,
]


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_the_pixels_decides_the_file(
    dataset: Dataset, monkeypatch: pytest.MonkeyPatch, change: Callable[[Dataset, pytest.MonkeyPatch], None]
) -> None:
    before = plan_cache(dataset, "auto")
    assert plan_cache(Dataset.open(dataset.path), "auto") == before
    change(dataset, monkeypatch)
    after = plan_cache(dataset, "auto")
    assert after.path != before.path and after.key != before.key


# ---------------------------------------------------------------- old files


def leave(folder: Path, name: str, age: float, size: int = NEED) -> Path:
    """A file that was last used ``age`` seconds ago."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(b"")
    os.truncate(path, size)
    os.utime(path, (time.time() - age, time.time() - age))
    return path


def test_the_least_recently_used_files_make_space(
    dataset: Dataset, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    oldest, used, newest = (leave(home, f"some-16px-{n:032x}.rows", age) for n, age in enumerate((300, 200, 100)))
    foreign = leave(home, "notes.rows", 400)
    held = decoded_cache.lock(used, 0, decoded_cache.fcntl.LOCK_SH)
    monkeypatch.setattr(decoded_cache, "LIMIT", 3 * NEED)
    assert plan_cache(dataset, "auto").open()[0] is not None
    assert not oldest.exists() and used.exists() and newest.exists() and foreign.exists()
    monkeypatch.setattr(decoded_cache, "LIMIT", 2 * NEED)
    assert plan_cache(dataset, "auto").open()[0] is not None
    assert used.exists() and not newest.exists(), "what another run has open stays"
    monkeypatch.setattr(decoded_cache, "LIMIT", NEED)
    rows, plan = plan_cache(dataset, "auto").open()
    assert rows is None and "other runs" in plan.reason and used.exists()
    os.close(held)
    assert plan_cache(dataset, "auto").open()[0] is not None and not used.exists()


def test_files_that_nobody_used_for_a_month_are_removed(dataset: Dataset, home: Path) -> None:
    old, recent = (leave(home, f"some-16px-{n:032x}.rows", days * 86400) for n, days in enumerate((31, 29)))
    plan = plan_cache(dataset, "auto")
    assert plan.open()[0] is not None and not old.exists() and recent.exists()
    os.utime(path_of(plan), (0, 0))
    assert plan.open()[0] is not None and path_of(plan).stat().st_mtime > time.time() - 100, "opening is a use"
