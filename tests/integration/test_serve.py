"""`cgan serve` as clients meet it: a real process on loopback."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import io
import json
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from openapi_spec_validator import validate
from PIL import Image

from shards.dataset.schema import Attribute
from support.browsers import address_document, text_of
from support.errors import raises
from support.serving import JSON, Served, read_all, serving
from support.small_runs import write_run
from trainer.export import command as export
from trainer.sampling import command as sample
from trainer.serving import command as serve

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
SMILE = Attribute("smile", "tag", ("smile",))
TOKEN = "correct-horse-battery"

pytestmark = pytest.mark.timeout(400)  # a server imports torch, which on a busy machine takes a minute


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_run(tmp_path_factory.mktemp("served") / "run", [HAIR, SMILE])


@pytest.fixture(scope="module")
def served(run: Path) -> Iterator[Served]:
    with serving(run, "--client-timeout", 2) as server:
        yield server


def drawn(run: Path, out: Path, words: str, count: int, seed: int) -> Path:
    """Draw with `cgan sample`, in this process."""
    sample.main([str(run), words, "--count", str(count), "--seed", str(seed), "--out", str(out), "--device", "cpu"])
    return out


# ---------------------------------------------------------------- drawing


@pytest.mark.parametrize("count", [2, 9, 64])
def test_png_is_the_grid_of_cgan_sample(served: Served, run: Path, tmp_path: Path, count: int) -> None:
    answer = served.sample({"words": "red hair, smile", "count": count, "seed": 3}, Accept="image/png")
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert answer.body == drawn(run, tmp_path / "grid.png", "red hair, smile", count, 3).read_bytes()


def test_single_images_are_those_of_cgan_samples_folder(served: Served, run: Path, tmp_path: Path) -> None:
    folder = drawn(run, tmp_path / "images", "blue hair", 10, 7)
    answer = served.sample({"words": "blue hair", "count": 10, "seed": 7}, Accept=JSON)
    assert {**answer.json, "images": []} == {
        "words": "blue hair", "count": 10, "seed": 7, "images_seen": 640, "images": []
    }  # fmt: skip
    images = [base64.b64decode(image["png"]) for image in answer.json["images"]]
    assert images == [path.read_bytes() for path in sorted(folder.glob("*.png"))] and len(images) == 10
    assert all("blue hair" in image["label"] for image in answer.json["images"])
    rows = (folder / "tags.csv").read_text().splitlines()[1:]
    assert [row.partition(",")[2].strip('"') for row in rows] == [", ".join(i["label"]) for i in answer.json["images"]]
    one = served.sample({"words": "blue hair", "seed": 7})
    assert one.body == images[0] and Image.open(io.BytesIO(one.body)).size == (16, 16)


def test_requests_at_once_get_their_own_images(served: Served) -> None:
    asked = [{"words": w, "count": c, "seed": s} for s in range(8) for w, c in (("red hair", 1), ("no smile", 5))]
    alone = [served.sample(content).body for content in asked]
    before = served.metrics()
    with concurrent.futures.ThreadPoolExecutor(16) as clients:
        together = list(clients.map(lambda content: served.sample(content).body, asked))
    assert together == alone and len(set(alone)) == len(alone)
    after = served.metrics()
    images, passes = (after[name] - before[name] for name in ("cgan_images_total", "cgan_passes_total"))
    assert images == 8 * 6 and passes < len(asked), "they shared passes"


def test_words_that_cgan_sample_refuses_are_refused_with_its_sentence(served: Served) -> None:
    answer = served.sample({"words": "bleu hair"})
    assert (answer.status, answer.code) == (422, "unknown-word")
    assert "'blue'" in answer.json["error"]["message"]
    assert (served.sample({"words": ""}).status, served.sample({"words": "blue red hair"}).status) == (422, 422)


# ---------------------------------------------------------------- around it


def test_page_runs_under_its_policy(served: Served, tmp_path: Path) -> None:
    answer = served.ask("GET", "/")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
    assert policy.endswith("frame-ancestors 'none'")
    assert answer.body.startswith(b"<!doctype html>")


@pytest.mark.long
def test_page_draws_in_chromium(served: Served, run: Path, tmp_path: Path) -> None:
    document = address_document(f"http://127.0.0.1:{served.port}/#selftest=1", tmp_path / "profile")
    assert json.loads(text_of(document, "selftest"))["pixels"]


def test_labels_health_and_metrics(served: Served) -> None:
    labels = served.ask("GET", "/labels").json
    assert labels["attributes"][0] == {"name": "hair", "kind": "exclusive", "values": list(HAIR.values), "width": 3}
    assert served.ask("GET", "/health").json["status"] == "ok"
    before = served.metrics()
    assert served.sample({"words": "anything", "count": 3}).status == 200
    assert served.sample({"words": "bleu"}).status == 422
    assert served.ask("GET", "/nowhere").status == 404
    after = served.metrics()
    for name, more in {
        'cgan_requests_total{path="/sample",status="200"}': 1,
        'cgan_requests_total{path="/sample",status="422"}': 1,
        'cgan_requests_total{path="other",status="404"}': 1,
        "cgan_images_total": 3,
        "cgan_sample_seconds_count": 1,
        'cgan_sample_seconds_bucket{le="+Inf"}': 1,
    }.items():
        assert after[name] - before.get(name, 0) == more, name
    assert after["cgan_waiting_requests"] == 0
    buckets = [value for name, value in after.items() if "_bucket" in name]
    assert buckets == sorted(buckets)


def test_log_has_a_line_for_each_request_and_nothing_of_a_client_that_a_terminal_obeys(served: Served) -> None:
    served.ask("GET", "/nowhere%1b[2J%0afake?token=secret-of-a-query", Authorization="Bearer secret-of-a-header")
    served.raw(b"GET /\x1b[2J HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(0.2)
    log = served.log.read_text()
    assert '"GET /nowhere%1b[2J%0afake" 404' in log and "secret-of" not in log
    assert all(letter.isprintable() or letter == "\n" for letter in log)
    assert re.search(r'(?m)^[\d-]+ [\d:]+ 127\.0\.0\.1 "-" 400$', log)


def test_description_is_valid_and_agrees_with_what_is_answered(served: Served) -> None:
    document = served.ask("GET", "/openapi.json").json
    validate(document)
    answers = {
        ("/sample", "post"): [
            served.sample({"words": "anything"}),
            served.sample({"words": "anything", "count": 2}, Accept=JSON),
            served.sample({"words": "bleu"}),
            served.sample({"words": 1}),
            served.sample({"words": "anything"}, Accept="text/html"),
            served.sample({"words": "anything"}, Content_Type="text/plain"),
            served.sample({"words": "x" * 20_000}),
            served.sample({"words": "anything"}, Host="evil.example"),
            served.ask("POST", "/sample", b"{", Content_Type=JSON),
        ],
        **{(path, "get"): [served.ask("GET", path)] for path in document["paths"] if path != "/sample"},
    }
    assert {status for found in answers.values() for status in (a.status for a in found)} >= {200, 400, 406, 413, 415}
    for (path, method), found in answers.items():
        for answer in found:
            described = document["paths"][path][method]["responses"][str(answer.status)]["content"]
            kind = answer.headers["content-type"].partition(";")[0]
            assert kind in described, (path, answer.status)
            if kind == JSON:
                schema = {**described[kind]["schema"], "components": document["components"]}
                jsonschema.validate(answer.json, schema, cls=jsonschema.Draft202012Validator)


def test_limits_of_the_description_are_those_of_the_server(served: Served) -> None:
    document = served.ask("GET", "/openapi.json").json
    schema = {**document["components"]["schemas"]["SampleRequest"], "components": document["components"]}
    valid = jsonschema.Draft202012Validator(schema)
    values: list[Any] = [
        {"words": "anything", **more}
        for more in (
            *({"count": n} for n in (0, 1, 64, 65, 4.0, 4.5, True, "4", None)),
            *({"seed": n} for n in (-1, 0, 2**53 - 1, 2**53, 1.5, [])),
            {"words": "anything" + " " * 492},
            {"words": "anything" + " " * 493},
            {"words": 7},
            {"more": 1},
        )
    ]
    for content in [*values, {}, [], "anything", None]:
        assert (served.sample(content).status == 200) == valid.is_valid(content), content


# ---------------------------------------------------------------- who may ask


@pytest.mark.parametrize("host", ["evil.example", "localhost.evil.example:80", "", "127.0.0.1.evil.example"])
def test_other_names_are_refused(served: Served, host: str) -> None:
    answer = served.ask("GET", "/labels", Host=host)
    assert (answer.status, answer.code) == (421, "unknown-host")


def test_other_sites_are_told_nothing(served: Served) -> None:
    answer = served.sample({"words": "anything"}, Origin="https://evil.example")
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert served.ask("OPTIONS", "/sample", Origin="https://evil.example").status == 405
    assert served.sample({"words": "anything"}, Content_Type="text/plain").code == "content-type"


def test_token_is_asked_for_and_shown_nowhere(run: Path, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    basic = base64.b64encode(f"me:{TOKEN}".encode()).decode()
    with serving(run, "--host", "0.0.0.0", "--token", file, "--allow-host", "gpu-box") as server:
        for path in ("/", "/labels", "/metrics", "/openapi.json", "/nowhere"):
            refused = server.ask("GET", path, Authorization=f"Bearer {TOKEN}x")
            assert (refused.status, refused.code) == (401, "token-needed")
            assert "Basic" in refused.headers["www-authenticate"]
        assert server.sample({"words": "anything"}).status == 401
        assert server.ask("GET", "/health").status == 200
        assert server.sample({"words": "anything"}, Authorization=f"Bearer {TOKEN}").status == 200
        assert server.ask("GET", "/", Authorization=f"Basic {basic}", Host="gpu-box:80").status == 200
        assert server.ask("GET", "/health", Host="other-box").status == 421
        shown = server.log.read_text() + Path(f"/proc/{server.process.pid}/cmdline").read_text()
        assert TOKEN not in shown and basic not in shown
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(60) == 0


def test_mistakes_of_the_command_line(served: Served, run: Path) -> None:
    for words, code, named in (
        (["--host", "0.0.0.0"], "token-needed", "--token"),
        (["--token", TOKEN], "token-unreadable", "--token"),
        (["--port", str(served.port)], "port-in-use", str(served.port)),
        (["--port", "70000"], "invalid-value", "--port"),
    ):
        with raises(code, named) as caught:
            serve.main([str(run), *words])
        assert TOKEN not in str(caught.value)


# ---------------------------------------------------------------- full, slow, ending


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """An exported generator with large networks, and a short queue."""
    folder = tmp_path_factory.mktemp("slow")
    write_run(folder / "run", [HAIR, SMILE], "residual", size=32, channels=(64, 48, 32, 32))
    export.main([str(folder / "run"), str(folder / "exported")])
    with serving(folder / "exported", "--queue", 3) as server:
        yield server


MANY = {"words": "anything", "count": 64}


def test_full_queue_refuses_and_recovers(slow: Served) -> None:
    with concurrent.futures.ThreadPoolExecutor(12) as clients:
        answers = list(clients.map(lambda _: slow.sample(MANY), range(12)))
    good = [a for a in answers if a.status == 200]
    assert 3 <= len(good) < 12 and len({a.body for a in good}) == 1
    for answer in answers:
        if answer.status != 200:
            assert (answer.status, answer.code) == (503, "queue-full")
            assert 1 <= int(answer.headers["retry-after"]) <= 30
    assert slow.sample(MANY).body == good[0].body
    assert slow.metrics()["cgan_waiting_requests"] == 0


def test_client_that_leaves_is_not_drawn_for(slow: Served) -> None:
    before = slow.metrics()["cgan_images_total"]
    for _ in range(3):
        with slow.connect() as client:
            client.sendall(request_of(json.dumps(MANY).encode()))
    wait_for(lambda: slow.metrics()["cgan_waiting_requests"] == 0)
    assert slow.metrics()["cgan_images_total"] - before < 3 * 64


def test_sigterm_finishes_what_is_drawn_and_refuses_new(slow: Served) -> None:
    with contextlib.closing(slow.connect()) as idle, concurrent.futures.ThreadPoolExecutor(3) as clients:
        futures = [clients.submit(slow.sample, MANY) for _ in range(3)]
        wait_for(lambda: slow.ask("GET", "/health").json["waiting"] == 3)
        slow.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not accepts(slow))
        assert slow.process.poll() is None, "it still draws"
        answers = [future.result() for future in futures]
        assert [a.status for a in answers] == [200] * 3 and len({a.body for a in answers}) == 1
        assert slow.process.wait(20) == 0
        assert read_all(idle) == b""
        assert "Traceback" not in slow.log.read_text()


def accepts(server: Served) -> bool:
    try:
        server.connect().close()
    except OSError:
        return False
    return True


def wait_for(condition: Any, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def request_of(body: bytes, extra: str = "", method: str = "POST", path: str = "/sample") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {JSON}\r\n{extra}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


def test_slow_clients_are_dropped(served: Served) -> None:
    """A head, a body and an answer that never end; the time is that of --client-timeout, however often a byte comes."""
    body = request_of(b'{"words": "anything"}')
    for beginning, status in ((b"", None), (b"GET / HTT", None), (body[:-4], 408)):
        with served.connect() as client:
            client.settimeout(0.25)
            client.sendall(beginning)
            began, found = time.monotonic(), None
            while found is None and time.monotonic() - began < 20:
                with contextlib.suppress(TimeoutError):
                    found = read_all(client)
                with contextlib.suppress(OSError):
                    client.sendall(b"x" if status is None else b"")
            assert found is not None and 1 < time.monotonic() - began < 15
            assert found[9:12] == (b"" if status is None else b"%d" % status)
    assert served.sample({"words": "anything"}).status == 200


def test_client_that_takes_no_answer_is_dropped(served: Served) -> None:
    before = served.resources()[0]
    clients = []
    for _ in range(4):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", served.port))
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 40)
        clients.append(client)
    wait_for(lambda: served.resources()[0] >= before)
    wait_for(lambda: served.resources()[0] <= before + 1)
    for client in clients:
        client.close()


def test_connections_are_limited(served: Served) -> None:
    clients = [served.connect() for _ in range(256)]
    try:
        wait_for(lambda: served.resources()[0] > 256)
        with served.connect() as one_more:
            answer = read_all(one_more)
        assert answer.startswith(b"HTTP/1.1 503 ") and b"too-many-connections" in answer and b"Retry-After: 1" in answer
    finally:
        for client in clients:
            client.close()
    wait_for(lambda: served.ask("GET", "/health").status == 200)
