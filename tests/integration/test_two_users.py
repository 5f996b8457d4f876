"""Two users of one machine share a cache: each gets the images that were packed, whatever the other left there."""

from __future__ import annotations

import os
import shutil
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from shards.core.cache_home import cache_home
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from trainer.evaluation.real_features import RealFeatures, _Entry

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="becoming two other users needs root")

ANN, BOB = 50_001, 50_002  # numbers of users that exist nowhere else


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that every user can reach; pytest's own are private."""
    with tempfile.TemporaryDirectory(prefix="cgan-users-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def data(place: Path, small_dataset: Path) -> Path:
    return Path(shutil.copytree(small_dataset, place / "data"))


def shared(place: Path, mode: int = 0o1777, owner: int = 0) -> Path:
    (place / "cache").mkdir()
    (place / "cache").chmod(mode)
    os.chown(place / "cache", owner, owner)
    return place / "cache"


def as_user(user: int, work: Callable[[], None], umask: int = 0o022) -> None:
    """Run some work in a child process of another user; fail if it raises."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.umask(umask)
            work()
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0, "see the traceback"


def assert_reads(data: Path, cache: Path, limit: int = 10**9) -> None:
    """Read all images through the cache, and compare them with those that were packed."""
    dataset, original = Dataset.open(data, cache=cache, limit_bytes=limit), Dataset.open(data)
    for row in range(len(original)):
        assert dataset.read(row) == original.read(row)


def folders(cache: Path) -> list[Path]:
    return sorted(path for path in cache.iterdir() if path.is_dir())


def test_users_who_cannot_write_to_each_others_files_have_a_folder_each(data: Path, place: Path) -> None:
    cache = shared(place)
    shard = max(path.stat().st_size for path in data.glob("*.tar"))
    for user in (ANN, BOB, ANN):
        as_user(user, lambda: assert_reads(data, cache, limit=12_000 + 2 * shard))  # evicts its own
    ann, bob = folders(cache)
    assert bob.name == f"user-{BOB}-{ann.name}"
    assert [path.stat().st_uid for path in (ann, bob)] == [ANN, BOB]


def test_users_who_can_write_to_each_others_files_fetch_them_once(data: Path, place: Path) -> None:
    cache = shared(place, 0o777)
    as_user(ANN, lambda: assert_reads(data, cache), umask=0)
    before = {path: path.stat().st_ino for path in cache.rglob("*.tar")}
    as_user(BOB, lambda: assert_reads(data, cache))
    assert {path: path.stat().st_ino for path in cache.rglob("*.tar")} == before and before


@pytest.mark.parametrize("left", ["other content", "pipe", "link", "partial", "partial that is a link"])
def test_what_another_user_left_is_hashed_or_replaced(left: str, data: Path, place: Path) -> None:
    """The mark of a verified file is its time of change, which everybody can set on a file of their own."""
    cache = shared(place, 0o777)
    as_user(ANN, lambda: assert_reads(data, cache), umask=0)
    (folder,) = folders(cache)
    secret = place / "secret"
    secret.write_bytes(b"untouched")
    os.chown(secret, ANN, ANN)

    def forge() -> None:
        for path in folder.glob("*.tar"):
            size, mark = path.stat().st_size, path.stat().st_mtime_ns
            path.unlink()
            partial = path.with_name(f".{path.name}.{size}.part")
            if left == "other content":
                path.write_bytes(bytes(size))
                os.utime(path, ns=(0, mark))
            elif left == "pipe":
                os.mkfifo(path)
            elif left == "link":
                path.symlink_to(secret)
            elif left == "partial":
                partial.write_bytes(bytes(size))
            else:
                partial.symlink_to(secret)

    as_user(BOB, forge)
    if left == "partial that is a link":
        with pytest.raises(AssertionError):  # one sentence, and the file behind the link stays
            as_user(ANN, lambda: assert_reads(data, cache))
    else:
        as_user(ANN, lambda: assert_reads(data, cache))
    assert secret.read_bytes() == b"untouched"


@pytest.mark.parametrize("mode", [0o700, 0o755, 0o500])
def test_a_cache_that_belongs_to_another_user_is_one_sentence(mode: int, data: Path, place: Path) -> None:
    cache = shared(place, mode, owner=ANN)

    def refused() -> None:
        with pytest.raises(UserError) as caught:
            Dataset.open(data, cache=cache)
        assert caught.value.code == "cache-unwritable" and str(cache) in str(caught.value)

    as_user(BOB, refused)


def test_a_home_that_belongs_to_another_user_is_no_hindrance(
    data: Path, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which sidecars were checked, and features of real images, are remembered there; here they are not believed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared(place, 0o755, owner=ANN)))
    entry = _Entry(cache_home() / "features" / "x.safetensors", "key", dimensions=2)
    features = RealFeatures(np.arange(3), np.zeros((3, 2), np.float32))

    def fill() -> None:
        Dataset.open(data)
        entry.write(features)
        assert len(entry.read().rows) == 3

    def use() -> None:
        Dataset.open(data)
        assert len(entry.read().rows) == 0
        entry.write(features)  # warns

    as_user(ANN, fill)
    as_user(BOB, use)


def test_a_user_without_a_home_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME")
    expected = Path(tempfile.gettempdir()) / f"cgan-trainer-{ANN}"

    def compare() -> None:
        assert cache_home() == expected

    as_user(ANN, compare)
