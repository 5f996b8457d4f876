"""A client's connection, with what uvicorn lacks: deadlines for slow clients, a limit of connections, JSON errors."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from trainer.serving.problems import Problem, body_of

_LEAST = 64 << 10  # bytes that a client must take within a deadline if it does not take all


class Limits(NamedTuple):
    """Limits for clients.

    Attributes:
        seconds: to send the head of a request, and to take an answer.
        connections: at once; one more is refused with status 503.
        refused: called with the client's address and the status, where no request reached the application.
    """

    seconds: float
    connections: int
    refused: Callable[[Any, int], object]


def connection_type(limits: Limits) -> type[Connection]:
    """Return the class of a server's connections."""
    return type("LimitedConnection", (Connection,), {"limits": limits})


class Connection(H11Protocol):
    """A connection that is closed when its client is too slow; see `Limits`."""

    limits: ClassVar[Limits]
    _head_deadline: asyncio.TimerHandle | None = None
    _answer_deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the head of a request, or refuse a connection too many."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.connections:
            problem = Problem(503, "too-many-connections", "this server has too many connections; try again later")
            self._refuse(problem, {"Retry-After": "1"})
        else:
            self._expect_head()

    def data_received(self, data: bytes) -> None:
        """Take bytes; drips do not extend the deadline of a head."""
        super().data_received(data)
        self._expect_head()

    def on_response_complete(self) -> None:
        """Wait until the client has taken the answer."""
        super().on_response_complete()
        self._expect_taken()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget all deadlines."""
        super().connection_lost(exc)
        self._unset_keepalive_if_required()
        for deadline in (self._head_deadline, self._answer_deadline):
            if deadline:
                deadline.cancel()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, called while the parser's error is handled, and end its request if it has begun."""
        status = getattr(sys.exception(), "error_status_hint", 400)
        if self._is_answering():
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self._refuse(Problem(status, "invalid-http", "this is not a valid HTTP request"), {})

    def _refuse(self, problem: Problem, headers: dict[str, str]) -> None:
        self.limits.refused(self.client, problem.http_status)
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            self.transport.abort()
            return
        body = body_of(problem)
        sent = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close", **headers}
        for event in (
            h11.Response(status_code=problem.http_status, headers=list(sent.items())),
            h11.Data(data=body),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._expect_taken()

    def _is_answering(self) -> bool:
        return not getattr(self.cycle, "response_complete", True)  # there is no cycle before the first request

    def _expect_head(self) -> None:
        if self._is_answering():
            if self._head_deadline:
                self._head_deadline.cancel()
            self._head_deadline = None
        elif self._head_deadline is None and not self.transport.is_closing():
            self._head_deadline = self.loop.call_later(self.limits.seconds, self.transport.abort)

    def _expect_taken(self) -> None:
        left = self.transport.get_write_buffer_size()
        if left and self._answer_deadline is None:
            self._answer_deadline = self.loop.call_later(self.limits.seconds, self._drop_if_slow, left)

    def _drop_if_slow(self, before: int) -> None:
        self._answer_deadline = None
        if self.transport.get_write_buffer_size() > before - _LEAST:
            self.transport.abort()
        else:
            self._expect_taken()
