"""The wrapper of every request: checks of its host and token, headers of its answer, a line in the log, metrics."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection
from datetime import datetime
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from trainer.serving.access_token import is_authorized
from trainer.serving.address import HostNames
from trainer.serving.metrics import Metrics
from trainer.serving.problems import Problem, response_of

# No page of another site may show, fetch or run what this server answers: for that reason, CORS headers are missing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_WITHOUT_TOKEN = ("/health",)
_LONGEST_PATH = 200  # letters in the log


class Guard:
    """ASGI middleware around all routes.

    Args:
        app: answers the requests that pass.
        paths: the server's own paths; all others are one in the metrics.
        names: by which it may be called.
        token: that clients must send; None: they need none.
        metrics: counts every answer.
    """

    def __init__(
        self, app: ASGIApp, paths: Collection[str], names: HostNames, token: str | None, metrics: Metrics
    ) -> None:
        self._app, self._paths, self._names, self._token, self._metrics = app, paths, names, token, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        answer = _Answer(send)
        problem = self._refusal(scope)
        try:
            await (response_of(problem) if problem else self._app)(scope, receive, answer)
        finally:
            seconds = time.perf_counter() - began
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._metrics.count_request(path, answer.status, seconds)
            asked = f"{scope['method']} {scope['raw_path'].decode('ascii', 'replace')[:_LONGEST_PATH]}"
            log(scope["client"], f'"{asked}" {answer.status} {answer.size} bytes {seconds * 1e3:.0f} ms')

    def _refusal(self, scope: Scope) -> Problem | None:
        headers = Headers(scope=scope)
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._names.allows(hosts[0]):
            return Problem(
                421, "unknown-host", "the Host header is no name of this server; start it with --allow-host NAME"
            )
        if self._token and scope["path"] not in _WITHOUT_TOKEN:
            sent = headers.getlist("authorization")
            if len(sent) != 1 or not is_authorized(self._token, sent[0]):
                return Problem(
                    401,
                    "token-needed",
                    "send this server's token: Authorization: Bearer TOKEN",
                    {"WWW-Authenticate": 'Bearer, Basic realm="cgan"'},
                )
        return None


class _Answer:
    """Sends an answer on, with the headers that all have, and notes its status and size."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 499  # the client left before it was answered
        self.size = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        else:
            self.size += len(message.get("body", b""))
        await self._send(message)


def log(client: Any, line: str) -> None:
    """Write a line of the access log: time, address, what was asked, status, size, duration.

    It has no headers and no query, so no token. A target is printable ASCII, or h11 would have refused it.
    """
    print(f"{datetime.now():%Y-%m-%d %H:%M:%S} {client[0] if client else '-'} {line}", file=sys.stderr, flush=True)
