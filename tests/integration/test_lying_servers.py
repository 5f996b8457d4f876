"""Servers that lie about the files of a dataset: images are those that were packed, or one sentence names the file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from shards.core.errors import Failure, UserError, shortened
from shards.dataset.dataset import Dataset
from shards.remote import cache
from support import servers
from support.errors import raises
from support.launching import make_dataset
from support.servers import Answer, Unreliable

Lie = Callable[[Answer], Answer]
PAGE = b"<html><body>Sign in to go on</body></html>"


def other_content(answer: Answer) -> Answer:
    status, headers, data = answer
    return status, headers, bytes([data[0] ^ 1]) + data[1:] if data else data


def other_range(answer: Answer) -> Answer:
    status, headers, data = answer
    return status, headers | ({"Content-Range": f"bytes 512-{511 + len(data)}/{2 * len(data)}"}), data


def reversed_content(answer: Answer) -> Answer:
    return answer[0], answer[1], answer[2][::-1]


def half(answer: Answer) -> Answer:
    status, headers, data = answer
    kept = {key: value for key, value in headers.items() if key.lower() not in ("content-length", "content-range")}
    return status, kept, data[: len(data) // 2]


def page(answer: Answer) -> Answer:
    return 200, {"Content-Type": "text/html"}, PAGE


def page_of_the_same_length(answer: Answer) -> Answer:
    return 200, {"Content-Type": "text/html"}, PAGE.ljust(len(answer[2]))[: len(answer[2])]


def nothing(answer: Answer) -> Answer:
    return 204, {}, b""


def redirect_in_a_circle(answer: Answer) -> Answer:
    return 302, {"Location": "source-000000.tar"}, b""


def redirect_nowhere(answer: Answer) -> Answer:
    return 302, {"Location": "http://[::bad/"}, b""


def redirect_to_a_file(answer: Answer) -> Answer:
    return 302, {"Location": "file:///etc/passwd"}, b""


def slow_down(answer: Answer) -> Answer:
    return 503, {"Retry-After": "1"}, b"SlowDown"


LIES: list[Lie] = [
    other_content,
    other_range,
    reversed_content,
    half,
    page,
    page_of_the_same_length,
    nothing,
    redirect_in_a_circle,
    redirect_nowhere,
    redirect_to_a_file,
    slow_down,
]


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make_dataset(tmp_path_factory.mktemp("lies"), count=16, size=16, per_shard=8)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**servers.CREDENTIALS, **servers.HASTE, "CGAN_REMOTE_DELAY": "0.01"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(cache, "_connections", {})


@pytest.fixture
def web(local: Dataset) -> Iterator[Unreliable]:
    server = Unreliable(local.path)
    yield server
    server.close()


@pytest.fixture(scope="module")
def moto(local: Dataset) -> Iterator[str]:
    pytest.importorskip("s3fs")
    with servers.s3() as url:
        servers.upload(url, local.path, "bucket", "faces")
        yield url


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Unreliable]:
    server = Unreliable(moto)
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    yield server
    server.close()


def assert_right_or_one_sentence(where: str, folder: Path, local: Dataset, name: str) -> bool:
    """Read all images; return whether that was possible."""
    try:
        dataset = Dataset.open(where, cache=folder)
        images = [dataset.read(row) for row in range(len(dataset))]
    except UserError as error:
        message = str(error)
    else:
        assert images == [local.read(row) for row in range(len(local))]
        assert (dataset.labels[:] == local.labels[:]).all()
        return True
    assert f"{where}/{name}" in message and "\n" not in message
    return False


@pytest.mark.parametrize("name", ["manifest.json", "labels.npy", "source-000000.tar"])
@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie.__name__)
def test_http_that_lies(lie: Lie, name: str, web: Unreliable, local: Dataset, tmp_path: Path) -> None:
    web.lie = lambda path, before, answer: lie(answer) if path.endswith(name) else answer
    assert not assert_right_or_one_sentence(web.url, tmp_path, local, name)


@pytest.mark.long
@pytest.mark.parametrize("lie", [other_content, half, page, redirect_nowhere, slow_down])
def test_s3_that_lies(lie: Lie, s3: Unreliable, local: Dataset, tmp_path: Path) -> None:
    s3.lie = lambda path, before, answer: lie(answer) if path.endswith("000000.tar") else answer
    assert not assert_right_or_one_sentence("s3://bucket/faces", tmp_path, local, "source-000000.tar")


@pytest.mark.parametrize("lie", [other_content, page_of_the_same_length, redirect_nowhere, slow_down])
def test_a_server_that_lies_once_is_asked_again(lie: Lie, web: Unreliable, local: Dataset, tmp_path: Path) -> None:
    web.lie = lambda path, before, answer: lie(answer) if path.endswith(".tar") and before == 0 else answer
    assert assert_right_or_one_sentence(web.url, tmp_path, local, "")


def test_a_server_that_drips_is_left(
    web: Unreliable, local: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then keeps a connection alive, and a training waiting for hours."""
    monkeypatch.setenv("CGAN_REMOTE_STALL", "0.5")
    monkeypatch.setenv("CGAN_REMOTE_TRIES", "2")
    monkeypatch.setattr(web, "fault", lambda method, path, before: "drip" if path.endswith(".tar") else None)
    dataset, begin = Dataset.open(web.url, cache=tmp_path), time.monotonic()
    with raises("fetch-failed", "source-000000.tar", "bytes per second", kind=Failure):
        dataset.read(0)
    assert time.monotonic() - begin < 20


def test_what_a_server_says_is_no_order_to_the_terminal() -> None:
    assert shortened("the server refuses (418 \x1b[2J\x9b1m\x07)\n\tend") == "the server refuses (418 �[2J�1m�)\n\tend"
