"""A thousand hostile requests, after which `cgan serve` answers, and holds no more than before."""

from __future__ import annotations

import contextlib
import json
import random
import socket
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.dataset.schema import Attribute
from support.serving import JSON, Served, read_all, serving
from support.small_runs import write_run

HAIR = Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair"))
TOKEN = "correct-horse-battery"
REQUESTS = 1000
GROWTH = 64 << 20  # bytes; what an allocator keeps

HOST = "Host: localhost\r\n"
AUTHORIZED = f"{HOST}Authorization: Bearer {TOKEN}\r\n"
PATHS = (
    "/../../etc/passwd",
    "/%2e%2e/%2e%2e/etc/passwd",
    "/labels/../../config.yaml",
    "//evil.example/sample",
    "/" + "a" * 4000,
    "/%00%ff%0d%0aSet-Cookie:%20a=b",
    "http://evil.example/labels",
    "/sample?words=blue+hair",
)
BODIES = (
    b"",
    b"{",
    b"null",
    b"[" * 8000,
    b'{"words":' * 1500,
    b'{"words": "blue hair", "count": 1e999}',
    b'{"words": "blue hair", "count": -Infinity}',
    b'{"words": "blue hair", "count": NaN}',
    b'{"words": "blue hair", "seed": ' + b"9" * 4000 + b"}",
    b'{"words": {"words": "blue hair"}}',
    b'{"words": "' + b"\\u0000\\ud800" * 40 + b'"}',
    b'{"words": "../../../etc/passwd; rm -rf /"}',
    b'{"words": "' + b"blue hair no " * 38 + b'"}',
    b'{"words": "' + b"z" * 500 + b'"}',
    b'{"__class__": "x", "words": "blue hair"}',
    bytes(range(256)),
    b"\xef\xbb\xbf{}",
    b'{"words": "blue hair"} trailing',
)


def posted(body: bytes, head: str = AUTHORIZED, kind: str = JSON) -> bytes:
    lines = f"POST /sample HTTP/1.1\r\n{head}Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return lines.encode("latin-1") + body


def chunked(body: bytes) -> bytes:
    head = f"POST /sample HTTP/1.1\r\n{AUTHORIZED}Content-Type: {JSON}\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head.encode() + body


def got(path: str, head: str = AUTHORIZED, method: str = "GET") -> bytes:
    return f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode("latin-1")


GOOD = b'{"words": "blue hair"}'
# Each makes the bytes of one hostile request.
ATTACKS: list[Callable[[random.Random], bytes]] = [
    lambda r: posted(r.choice(BODIES)),
    lambda r: posted(GOOD, kind=r.choice(["text/plain", "application/x-www-form-urlencoded", "", "a" * 900])),
    lambda r: posted(b"x" * r.choice([17 << 10, 200 << 10, 3 << 20])),
    lambda r: got(r.choice(PATHS)),
    lambda r: got(
        "/sample", method=r.choice(["GET", "PUT", "DELETE", "TRACE", "CONNECT", "PROPFIND", "post", "X" * 99])
    ),
    lambda r: got("/labels", r.choice(["", "Host: evil.example\r\n", "Host: a\r\nHost: b\r\n", "Host: [::1\r\n"])),
    lambda r: got(
        "/labels", f"{HOST}Authorization: {r.choice(['', 'Bearer x', 'Basic !', f'Bearer {TOKEN[:-1]}'])}\r\n"
    ),
    lambda r: got("/labels", AUTHORIZED + f"X: {'y' * r.choice([9000, 20_000, 300_000])}\r\n"),
    lambda r: got("/labels", AUTHORIZED + "".join(f"X-{i}: y\r\n" for i in range(1500))),
    lambda r: chunked(
        r.choice([b"zz\r\n", b"-1\r\n", b"FFFFFFFFFFFFFFFFFF\r\n", b"5\r\nabc\r\n0\r\n\r\n", b"1;" + b"a" * 99])
    ),
    lambda r: chunked(b"".join(b"1\r\n%c\r\n" % letter for letter in GOOD) + b"0\r\n\r\n"),
    lambda r: posted(GOOD, AUTHORIZED + "Transfer-Encoding: chunked\r\n"),
    lambda r: posted(GOOD, AUTHORIZED + "Content-Length: 5\r\n"),
    lambda r: posted(GOOD)[: r.randrange(1, 150)],
    lambda r: posted(GOOD, AUTHORIZED + f"Accept: {r.choice(['text/html', ',;,', 'image/png;q=x', '*' * 5000])}\r\n"),
    lambda r: posted(GOOD, AUTHORIZED + "Expect: 100-continue\r\n"),
    lambda r: posted(GOOD, AUTHORIZED + "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    lambda r: r.randbytes(r.randrange(1, 4000)),
    lambda r: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + r.randbytes(200),  # TLS
    lambda r: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    lambda r: (got("/health") + posted(GOOD)) * r.randrange(2, 12),  # pipelining
    lambda r: got("/health") * 3 + r.randbytes(50),
    lambda r: b"GET /health HTTP/1.0\r\n\r\n",
    lambda r: b"\r\n" * 200 + got("/health"),
]


def attack(served: Served, random: random.Random) -> bytes:
    """Send one hostile request in one of several ways, and return what came back."""
    data = random.choice(ATTACKS)(random)
    with served.connect() as client:
        client.settimeout(0.05)
        with contextlib.suppress(OSError):
            way = random.randrange(6)
            if way == 0:  # leave at once
                client.sendall(data)
                return b""
            if way == 1:  # reset
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(data)
                return b""
            if way == 2:  # drip
                for start in range(0, min(len(data), 60), 6):
                    client.sendall(data[start : start + 6])
                    time.sleep(0.001)
            elif way == 3:  # half-closed
                client.sendall(data)
                client.shutdown(socket.SHUT_WR)
            else:
                client.sendall(data)
        with contextlib.suppress(TimeoutError):
            return read_all(client)
    return b""


@pytest.mark.long
def test_thousand_hostile_requests_leave_nothing_behind(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [HAIR])
    with serving(run, "--client-timeout", 1, CGAN_SERVE_TOKEN=TOKEN) as served:

        def expected() -> bytes:
            answer = served.sample({"words": "red hair", "count": 9}, Authorization=f"Bearer {TOKEN}")
            assert answer.status == 200
            return answer.body

        image = expected()
        dice = random.Random(0)
        for _ in range(100):  # warm: what is allocated once is there
            attack(served, dice)
        settled(served)
        descriptors, threads, memory = served.resources()
        statuses: Counter[str] = Counter()
        for _ in range(REQUESTS):
            answer = attack(served, dice)
            statuses[answer[9:12].decode("latin-1")] += 1
            head, _, body = answer.partition(b"\r\n\r\n")
            assert b"Traceback" not in answer and b"root:" not in answer and TOKEN.encode() not in answer
            if answer[9:10] == b"4" and b"HTTP/1.1 " not in body:
                assert json.loads(body)["error"]["message"], answer
            assert b" 500 " not in head, answer
        assert len([s for s in statuses if s.startswith("4")]) >= 7, statuses
        settled(served)
        end = time.monotonic() + 30  # a busy machine may not have closed the last connection yet
        while (after := served.resources())[0] > descriptors or after[1] > threads:
            assert time.monotonic() < end, (after, descriptors, threads, served.descriptors())
            time.sleep(0.1)
        assert after[2] - memory < GROWTH
        assert expected() == image
        assert served.process.poll() is None
        log = served.log.read_text()
        assert "Traceback" not in log and TOKEN not in log, log[log.find("Traceback") - 500 :][:3000]
        assert all(letter.isprintable() or letter == "\n" for letter in log)


def settled(served: Served) -> None:
    """Wait until slow clients are dropped, and nothing waits to be drawn."""
    end = time.monotonic() + 30
    time.sleep(2.5)
    while served.ask("GET", "/health").json["waiting"]:
        assert time.monotonic() < end
        time.sleep(0.1)
