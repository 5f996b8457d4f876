"""Run the application until it is asked to stop, and then finish what is being drawn."""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from trainer.serving.connection import Connection

_KEEP_ALIVE = 5  # seconds that a connection may stay without a request
_MAX_HEAD = 16 << 10  # bytes of a request's head


class Server(uvicorn.Server):
    """A server that SIGTERM and Ctrl-C end, with status 0 and after the requests that it holds.

    A second Ctrl-C ends it at once. uvicorn would raise the signals again at the end.
    """

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run(app: ASGIApp, listening: socket.socket, connections: type[Connection], seconds: float) -> None:
    """Answer requests until a signal comes.

    Args:
        listening: a socket that listens; it is closed.
        connections: the class of connections.
        seconds: that requests have to finish after the signal.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # clients' mistakes are in the access log
    config = uvicorn.Config(
        app,
        http=connections,
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=max(1, round(seconds)),
        h11_max_incomplete_event_size=_MAX_HEAD,
    )
    Server(config).run([listening])
