"""Servers on loopback for the tests of remote data sets: S3 itself (moto), and one that fails when it is told to."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from support.launching import free_port

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAFAKEFAKEFAKE",
    "AWS_SECRET_ACCESS_KEY": "fake-secret-fake-secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "NO_PROXY": "127.0.0.1,localhost",
}
# So that tests of failure end soon, also on a machine that is busy.
HASTE = {
    "CGAN_REMOTE_TRIES": "3",
    "CGAN_REMOTE_STALL": "5",
    "CGAN_REMOTE_DEADLINE": "20",
    "CGAN_REMOTE_DELAY": "0.05",
}


@contextlib.contextmanager
def s3() -> Iterator[str]:
    """The URL of an S3 server, a process of its own; data sets come into it by `upload`."""
    port = free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError):
                http.client.HTTPConnection("127.0.0.1", port, timeout=1).connect()
                break
            assert server.poll() is None, "moto's server did not start"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def upload(endpoint: str, folder: Path, bucket: str, prefix: str) -> None:
    """Put a folder's files into a bucket that may not be there yet."""
    import boto3

    client: Any = boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id=CREDENTIALS["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
    )
    client.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            client.upload_file(str(path), bucket, f"{prefix}/{path.relative_to(folder).as_posix()}")


Answer = tuple[int, dict[str, str], bytes]  # status, headers, content


class Unreliable:
    """An HTTP server of a folder (with ranges) or before another server, that fails where ``fault`` says.

    Attributes:
        url: where it listens.
        requests: (method, path, range or "") of all requests so far.
        lie: changes an answer: (path, how many requests of that path came before, answer) -> answer.
        fault: (method, path, how many requests of that path came before) -> None or one of `FAULTS`, or a status.
        ranges: whether the folder's server knows ranges.
    """

    FAULTS = ("stall", "truncate", "drop", "slow", "drip")

    def __init__(self, source: Path | str) -> None:
        self.source = source
        self.requests: list[tuple[str, str, str]] = []
        self.fault: Callable[[str, str, int], str | int | None] = lambda method, path, before: None
        self.lie: Callable[[str, int, Answer], Answer] = lambda path, before, answer: answer
        self.ranges = True
        self.login: str | None = None
        self.over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._server.server_close()

    def gets(self, name: str) -> list[str]:
        """The ranges with which a file was asked for."""
        return [ranges for method, path, ranges in self.requests if method == "GET" and path.endswith(name)]


def _handler(owner: Unreliable) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = unquote(urlsplit(self.path).path)
            before = sum(request[:2] == (self.command, path) for request in owner.requests)
            owner.requests.append((self.command, path, self.headers.get("Range", "")))
            fault = owner.fault(self.command, path, before)
            if fault == "drop":
                self.close_connection = True
                return
            if isinstance(fault, int):
                self._send(fault, {}, b"", None)
                return
            with contextlib.suppress(OSError):
                answer = self._file(path) if isinstance(owner.source, Path) else self._forward()
                self._send(*owner.lie(path, before, answer), fault)

        def _file(self, path: str) -> tuple[int, dict[str, str], bytes]:
            assert isinstance(owner.source, Path)
            if owner.login and self.headers.get("Authorization") != owner.login:
                return 401, {}, b""
            file = owner.source / path.lstrip("/")
            if not file.is_file():
                return 404, {}, b""
            data = file.read_bytes()
            found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")) if owner.ranges else None
            if not found:
                return 200, {}, data
            start, stop = int(found[1]), min(int(found[2]) + 1, len(data))
            if start >= len(data):
                return 416, {}, b""
            return 206, {"Content-Range": f"bytes {start}-{stop - 1}/{len(data)}"}, data[start:stop]

        def _forward(self) -> tuple[int, dict[str, str], bytes]:
            connection = http.client.HTTPConnection(urlsplit(str(owner.source)).netloc, timeout=30)
            connection.request(self.command, self.path, headers=dict(self.headers.items()))
            answer = connection.getresponse()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in ("transfer-encoding", "connection")}
            return answer.status, kept, answer.read()

        def _send(self, status: int, headers: dict[str, str], data: bytes, fault: str | int | None) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "date", "server"):
                    self.send_header(name, value)
            told = {k.lower(): v for k, v in headers.items()}.get("content-length")
            self.send_header("Content-Length", told if self.command == "HEAD" and told else str(len(data)))
            self.end_headers()
            if self.command == "HEAD":
                return
            self.wfile.write(data[:1] if fault == "drip" else data[: len(data) // 2])
            if fault == "stall":
                owner.over.wait(60)
            if fault in ("stall", "truncate"):
                self.close_connection = True
                return
            while fault == "drip" and not owner.over.wait(0.1):
                self.wfile.write(b"x")
                self.wfile.flush()
            if fault == "slow":
                self.wfile.flush()
                time.sleep(0.4)
            self.wfile.write(data[len(data) // 2 :])

    return Handler
