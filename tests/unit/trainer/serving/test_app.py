"""Answers that take a fault, or a limit that no client waits for."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient
from torch import Tensor

from shards.core.errors import UserError
from shards.dataset.schema import Attribute
from support.small_runs import write_run
from trainer.generation.sampler import Sampler, load
from trainer.serving.address import HostNames
from trainer.serving.app import Patience, Service
from trainer.serving.drawing import DrawingThread
from trainer.serving.guard import Guard
from trainer.serving.metrics import Metrics

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))


@pytest.fixture(scope="module")
def sampler(tmp_path_factory: pytest.TempPathFactory) -> Sampler:
    return load(write_run(tmp_path_factory.mktemp("app") / "run", [HAIR]), device="cpu")


@pytest.fixture
def client(sampler: Sampler) -> Iterator[TestClient]:
    metrics = Metrics()
    service = Service(sampler, UserError("sentences-need-encoder", "there is no page"), Patience(1, 0.2, 5), metrics)
    guard = Guard(service.application(), service.routes, HostNames(()), None, metrics)
    with TestClient(guard, "http://localhost", raise_server_exceptions=False) as client:
        yield client


def test_drawing_that_takes_too_long_is_given_up(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    never: Future[None] = Future()
    with monkeypatch.context() as patch:
        patch.setattr(DrawingThread, "submit", lambda *_: never)
        answer = client.post("/sample", json={"words": "anything"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (504, "too-slow")
    assert never.cancelled()
    assert client.get("/health").json()["waiting"] == 0, "its place in the queue is free"


def test_fault_is_one_sentence_for_clients_and_nothing_of_the_program(
    client: TestClient, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret")

    with monkeypatch.context() as patch:
        patch.setattr(DrawingThread, "submit", fail)
        answer = client.post("/sample", json={"words": "anything"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (500, "internal-error")
    assert "secret" not in answer.text
    assert client.get("/health").json()["waiting"] == 0
    assert '"POST /sample" 500' in capsys.readouterr().err


def test_client_that_leaves_while_its_words_are_read_is_not_drawn_for(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, drawn, noise = threading.Event(), list[object](), Sampler.noise

    def slowly(*words: Any) -> Tensor:
        time.sleep(0.6)  # longer than the server's patience
        read.set()
        return noise(*words)

    with monkeypatch.context() as patch:
        patch.setattr(DrawingThread, "submit", lambda *_: drawn.append(1))
        patch.setattr(Sampler, "noise", slowly)
        assert client.post("/sample", json={"words": "anything"}).status_code == 504
        assert read.wait(10)
        client.get("/health")
    assert not drawn


def test_path_with_a_slash_behind_it_is_unknown(client: TestClient) -> None:
    assert client.get("/labels/", follow_redirects=False).status_code == 404


def test_run_without_a_page_says_why(client: TestClient) -> None:
    answer = client.get("/")
    assert (answer.status_code, answer.json()["error"]) == (
        404,
        {"code": "sentences-need-encoder", "message": "there is no page"},
    )


def test_labels_of_captions_and_numbers_are_described(tmp_path: Path) -> None:
    sizes = Attribute("sizes", "vector", (), 2)
    run = write_run(tmp_path / "run", [HAIR, sizes, Attribute("caption", "text", (), 4)])
    service = Service(load(run, device="cpu"), UserError("x", "y"), Patience(1, 1, 1), Metrics())
    with TestClient(service.application()) as client:
        kinds = {a["name"]: (a["kind"], a["width"]) for a in client.get("/labels").json()["attributes"]}
    assert kinds == {"hair": ("exclusive", 3), "sizes": ("vector", 2), "caption": ("text", 4)}
