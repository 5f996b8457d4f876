"""Remote datasets: real S3 and HTTP servers that fail in every way, and messages without secrets."""

from __future__ import annotations

import multiprocessing
import pickle
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.registry import _registry as loaded
from hypothesis import given
from hypothesis import strategies as st

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from shards.remote import cache, fetch
from shards.remote.fetch import Connection, RetryPolicy
from shards.remote.location import Location, parse_location
from shards.stream.loader import batches
from shards.stream.sampling import Sampling
from shards.stream.stream import Stream
from support import servers
from support.errors import raises
from support.launching import TINY, checkpoints, make_dataset, start
from support.servers import Unreliable

QUICK = RetryPolicy(tries=3, stall=0.5, deadline=3, delay=0.02)


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("remote"), count=40, size=16, per_shard=8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in {**servers.CREDENTIALS, **servers.HASTE, "XDG_CACHE_HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def server(local: Dataset) -> Iterator[Unreliable]:
    server = Unreliable(local.path)
    yield server
    server.close()


def images(dataset: Dataset) -> list[bytes]:
    return [dataset.read(i) for i in range(len(dataset))]


# ---------------------------------------------------------------- S3


@pytest.fixture(scope="module")
def s3(local: Dataset) -> Iterator[str]:
    pytest.importorskip("s3fs")
    with servers.s3() as url:
        servers.upload(url, local.path, "bucket", "some/faces")
        yield url


@pytest.fixture
def proxy(s3: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:
    proxy = Unreliable(s3)
    monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
    monkeypatch.setattr(cache, "_connections", {})  # the endpoint is another one in each test
    yield proxy
    proxy.close()


def test_s3_gives_what_the_folder_gives(local: Dataset, proxy: Unreliable, tmp_path: Path) -> None:
    dataset = Dataset.open("s3://bucket/some/faces")
    assert images(dataset) == images(local)
    assert dataset.fingerprint == local.fingerprint and dataset.remote and dataset.where == "s3://bucket/some/faces"
    assert (dataset.labels[:] == local.labels[:]).all() and (dataset.known == local.known).all()
    assert dataset.path.parent == tmp_path / "home" / "cgan-trainer" / "shards"
    count = len(proxy.requests)
    assert images(dataset) == images(local) and len(proxy.requests) == count, "everything is cached"


def test_s3_that_fails_in_every_way_now_and_then(
    local: Dataset, proxy: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CGAN_REMOTE_STALL", "1")
    monkeypatch.setenv("CGAN_REMOTE_TRIES", "9")
    kinds: list[Any] = [500, "truncate", "drop", "slow", 503, "stall"]

    def fault(method: str, path: str, before: int) -> str | int | None:
        return kinds[sum(map(ord, path)) % len(kinds)] if before == 0 and method == "GET" else None

    proxy.fault = fault
    assert images(Dataset.open("s3://bucket/some/faces", cache=tmp_path / "c")) == images(local)
    faults = {fault("GET", path, 0) for method, path, _ in proxy.requests if method == "GET"}
    assert len(faults) >= 4, "the names of the shards met several kinds of fault"


def test_s3_mistakes_are_reported_at_once(proxy: Unreliable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for url in ("s3://bucket/other", "s3://no-such-bucket/faces"):
        with raises("remote-file-missing", f"{url}/manifest.json"):
            Dataset.open(url, cache=tmp_path)
    proxy.fault = lambda method, path, before: 403
    with raises("access-denied", "manifest.json"):
        Dataset.open("s3://bucket/some/faces", cache=tmp_path)
    assert len([path for _, path, _ in proxy.requests if "some/faces" in path]) == 1, "no retries"
    monkeypatch.setattr(cache, "_connections", {})
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with raises("no-credentials", "s3://bucket/some/faces"):
        Dataset.open("s3://bucket/some/faces", cache=tmp_path)


def test_s3_in_forked_and_spawned_workers(local: Dataset, proxy: Unreliable, tmp_path: Path) -> None:
    """Opened here, read there: nothing was fetched before the fork, so the children connect by themselves."""
    dataset = Dataset.open("s3://bucket/some/faces", cache=tmp_path)
    for method in {"fork", "spawn"} & set(multiprocessing.get_all_start_methods()):
        with multiprocessing.get_context(method).Pool(2) as pool:
            assert pool.map(dataset.read, range(len(dataset))) == images(local)
    assert all(len(proxy.gets(path.name)) == 1 for path in dataset.shards), "one process fetched, the other waited"


# ---------------------------------------------------------------- HTTP


@pytest.mark.parametrize("ranges", [True, False])
def test_http_gives_what_the_folder_gives(local: Dataset, server: Unreliable, ranges: bool, tmp_path: Path) -> None:
    server.ranges = ranges
    server.fault = lambda method, path, before: "truncate" if path.endswith(".tar") and before == 0 else None
    assert images(Dataset.open(server.url + "/", cache=tmp_path)) == images(local)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_from_a_cache_is_the_folders(
    local: Dataset, server: Unreliable, workers: int, tmp_path: Path
) -> None:
    remote = Dataset.open(server.url, cache=tmp_path)
    sides = [islice(batches(Stream(d, 12, seed=3), 2, workers), 6) for d in (remote, local)]
    for ours, theirs in zip(*sides, strict=True):
        assert torch.equal(ours.images, theirs.images) and torch.equal(ours.labels, theirs.labels)
    assert [len(server.gets(path.name)) for path in local.shards] == [1] * len(local.shards)


def test_http_with_user_password_and_query(local: Dataset, server: Unreliable, tmp_path: Path) -> None:
    server.login = "Basic bWU6Z2VoZWlt"  # me:geheim
    url = server.url.replace("http://", "http://me:geheim@") + "?token=hush"
    assert images(Dataset.open(url, cache=tmp_path)) == images(local)
    with raises("access-denied", "manifest.json"):
        Dataset.open(url.replace("geheim", "falsch"), cache=tmp_path)


def test_a_server_that_is_gone_ends_in_bounded_time(server: Unreliable, tmp_path: Path) -> None:
    dataset = Dataset.open(server.url.replace("//", "//me:geheim@") + "?token=hush", cache=tmp_path)
    server.close()
    begun = time.monotonic()
    with raises("fetch-failed", ".tar: ", "3 tries", kind=Failure) as caught:
        dataset.read(0)
    assert time.monotonic() - begun < 20
    assert "geheim" not in str(caught.value) and "hush" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_stalling_server_is_given_up(server: Unreliable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CGAN_REMOTE_STALL", "1")
    server.fault = lambda method, path, before: "stall" if path.endswith(".tar") else None
    dataset = Dataset.open(server.url, cache=tmp_path)
    with raises("fetch-failed", "3 tries", kind=Failure):
        dataset.read(0)


def test_a_stream_is_left_while_its_server_stalls(server: Unreliable, tmp_path: Path) -> None:
    dataset = Dataset.open(server.url, cache=tmp_path)
    stream = batches(Stream(dataset, 4, 0, sampling=Sampling("windowed", 1)), 0, workers=2)
    next(stream)
    server.fault = lambda method, path, before: "stall" if path.endswith(".tar") else None
    before = set(multiprocessing.active_children())
    begun = time.monotonic()
    stream.close()  # type: ignore[attr-defined]
    assert time.monotonic() - begun < 4, "no worker is waited for that waits for the server"
    assert before and not before & set(multiprocessing.active_children())


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_asked_to_stop_while_its_server_stalls_is_saved(server: Unreliable, tmp_path: Path, workers: int) -> None:
    server.fault = lambda method, path, before: "stall" if path.endswith(".tar") and "000003" in path else None
    run = tmp_path / "run"
    words = [*TINY, "--shards", server.url, "--cache", tmp_path / "cache", "--run", run, "--order", "full"]
    environment = {"CGAN_REMOTE_STALL": "60", "CGAN_REMOTE_DEADLINE": "200"}
    with start(*words, "--total-images", 100_000, "--workers", workers, processes=0, **environment) as process:
        end = time.monotonic() + 60
        while not server.gets("000003.tar"):
            assert time.monotonic() < end and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output = process.communicate(timeout=40)[0]
    assert process.returncode == 0 and "stopped (SIGTERM) and saved at" in output, output
    assert "Traceback" not in output and len(checkpoints(run)) == 1


def test_a_file_that_is_too_short_is_reported_at_once(local: Dataset, tmp_path: Path) -> None:
    for path in local.path.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard = local.shards[0].name
    (tmp_path / shard).write_bytes(local.shards[0].read_bytes()[:1000])
    server = Unreliable(tmp_path)
    with raises("file-too-short", shard, "1,000 bytes"):
        Dataset.open(server.url, cache=tmp_path / "cache").read(0)
    assert len(server.gets(shard)) == 1
    server.close()


def test_urls_without_a_dataset(server: Unreliable, tmp_path: Path) -> None:
    with raises("remote-file-missing", "nothing/manifest.json"):
        Dataset.open(server.url + "/nothing", cache=tmp_path)
    for content in (b"<html>log in</html>", b"[" * 100_000, b"\xff\0", b"{}", b""):
        (tmp_path / "bad").mkdir(exist_ok=True)
        (tmp_path / "bad" / "manifest.json").write_bytes(content)
        other = Unreliable(tmp_path / "bad")
        with raises("manifest-invalid", "manifest.json"):
            Dataset.open(other.url, cache=tmp_path / "c")
        other.close()


# ---------------------------------------------------------------- connection


def test_a_transfer_resumes_where_it_broke(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096  # 1 MiB
    (tmp_path / "x.bin").write_bytes(data)
    server = Unreliable(tmp_path)
    server.fault = lambda method, path, before: "truncate" if method == "GET" and before < 3 else None
    connection = Connection(Location(server.url), QUICK)
    assert b"".join(connection.stream("x.bin", 0, len(data))) == data
    starts = [int(ranges.split("=")[1].split("-")[0]) for ranges in server.gets("x.bin")]
    assert starts[0] == 0 and starts == sorted(starts) and starts[-1] > len(data) // 2
    assert connection.read("x.bin", len(data)) == data
    with raises("file-too-large", "x.bin", "1,000 bytes", kind=Failure):
        connection.read("x.bin", 1000)
    server.close()


def test_a_silent_transfer_is_lost_and_errors_pass() -> None:
    def silent() -> Iterator[int]:
        yield 1
        time.sleep(30)

    results, begun = fetch._with_stall_timeout(silent, 0.1), time.monotonic()
    assert next(results) == 1
    with pytest.raises(fetch.ConnectionLost, match=r"no answer for 0\.1 s"):
        next(results)
    assert time.monotonic() - begun < 10
    with pytest.raises(ZeroDivisionError):
        list(fetch._with_stall_timeout(lambda: iter([1 // 0]), 1))
    assert list(fetch._with_stall_timeout(lambda: iter(range(100)), 1)) == list(range(100))


# ---------------------------------------------------------------- names


@pytest.mark.parametrize(
    "where",
    [
        "pipe:cat /etc/passwd",
        "PIPE:curl x",
        "pipe://x",
        "simplecache::s3://b/x",
        "zip://x::s3://b/y.zip",
        "memory://x",
        "reference://x",
        "http:///x",
        "http://a..b/x",
        "http://[::1/x",
        "http://h:99999/x",
        "https://h/\udcff",
        "file://host/x",
    ],
)
def test_trap_unsafe_or_invalid_urls_are_refused(where: str) -> None:
    with pytest.raises(UserError):
        parse_location(where)


def test_missing_backends_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for module, url, extra in (("s3fs", "s3://b/x", "s3"), ("gcsfs", "gs://b/x", "gcs")):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(loaded, url.partition(":")[0], raising=False)  # by earlier tests
        with raises("missing-package", f'pip install "cgan-trainer[{extra}]"'):
            Connection(Location(url), QUICK)
    with raises("invalid-url", "nosuch"):
        Connection(Location("nosuch://x"), QUICK)


def test_folders_urls_and_what_lies_below_them(tmp_path: Path) -> None:
    assert parse_location("some/folder") == Path("some/folder") and parse_location("file:///a%20b/c") == Path("/a b/c")
    for name in ("a b", "ü?#%41", "x;y"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_bytes(b"content")
        location = Location.of_folder(tmp_path / name)
        assert str(location) == str(tmp_path / name)
        assert Connection(location, QUICK).read("file", 100) == b"content"


@given(st.text("abcXYZ019-_.~", min_size=4), st.text("abcXYZ019-_.~", min_size=4), st.text("abc123", min_size=4))
def test_no_secret_is_printed(user: str, password: str, query: str) -> None:
    location = Location(f"https://{user}!:{password}!@host.example/data?sig={query}!")
    assert str(location) == "https://***@host.example/data"
    shown = location.scrub(f"could not get {location.url} as {user}! with {password}! and sig={query}!")
    for secret in (user + "!", password + "!", query + "!"):
        assert secret not in str(location) + repr(location) + shown
    assert pickle.loads(pickle.dumps(location)) == location


def test_retry_policy_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CGAN_REMOTE_STALL", "7.5")
    assert RetryPolicy.from_environment().stall == 7.5
    for bad in ("0", "x", "nan", "-1", "inf"):
        monkeypatch.setenv("CGAN_REMOTE_STALL", bad)
        with raises("invalid-environment", "CGAN_REMOTE_STALL"):
            RetryPolicy.from_environment()
