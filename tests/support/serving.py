"""Real servers of `cgan serve`, and clients that speak to them."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from support import ROOT


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    status: int
    headers: Mapping[str, str]  # names in lower case
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The message code of an error."""
        return self.json["error"]["code"]


class Served:
    """A server process and its address."""

    def __init__(self, process: subprocess.Popen[str], port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        """Send one request; names of headers have underscores for hyphens."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        with contextlib.closing(connection):
            connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
            return answer_of(connection.getresponse())

    def sample(self, content: Any, **headers: str) -> Answer:
        """POST JSON to /sample."""
        return self.ask("POST", "/sample", json.dumps(content).encode(), **{"Content_Type": JSON} | headers)

    def raw(self, data: bytes) -> bytes:
        """Send bytes, and return all that comes until the server closes the connection."""
        with self.connect() as client:
            with contextlib.suppress(OSError):
                client.sendall(data)
            return read_all(client)

    def metrics(self) -> dict[str, float]:
        text = self.ask("GET", "/metrics").body.decode()
        return {name: float(value) for name, value in re.findall(r"(?m)^(\w+(?:{.*})?) (\S+)$", text)}

    def resources(self) -> tuple[int, int, int]:
        """File descriptors, threads, resident bytes."""
        process = psutil.Process(self.process.pid)
        return process.num_fds(), process.num_threads(), process.memory_info().rss

    def descriptors(self) -> list[str]:
        """What the file descriptors are of, such as sockets."""
        return [str(path.readlink()) for path in sorted(Path(f"/proc/{self.process.pid}/fd").iterdir())]


JSON = "application/json"


def answer_of(response: http.client.HTTPResponse) -> Answer:
    return Answer(response.status, {name.lower(): value for name, value in response.getheaders()}, response.read())


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the other end closes, or resets, the connection."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while data := client.recv(1 << 16):
            found += data
    return found


@contextlib.contextmanager
def serving(run: Path, *options: object, **environment: str) -> Iterator[Served]:
    """Run `cgan serve` at a free port until the end of the context."""
    log = run.with_name(f"{run.name}-{os.urandom(4).hex()}.log")
    words = [sys.executable, "-m", "trainer", "serve", str(run), "--port", "0", "--device", "cpu", *map(str, options)]
    with log.open("w") as errors:
        process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1"} | environment,
        )
    try:
        assert process.stdout
        told = process.stdout.readline()
        found = re.match(r"http://[\d.]+:(\d+): ", told)
        assert found, f"{told}{log.read_text()}"
        yield Served(process, int(found[1]), log)
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()
