"""Bytes from elsewhere: ranges of files under a location, every transfer watched and retried.

Whatever the protocol, no byte for a while counts as a lost connection.
"""

from __future__ import annotations

import http.client
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

from shards.core.errors import Failure, UserError
from shards.remote.location import Location
from shards.remote.stores import Lost, Refused, connect

_LONGEST_PAUSE = 30.0  # seconds between attempts
_PROGRESS = 1 << 16  # bytes that a broken connection must have brought for its retries to begin anew

Item = TypeVar("Item")


@dataclass(frozen=True)
class Patience:
    """How long a transfer is tried; CGAN_REMOTE_TRIES, _STALL and _DEADLINE in the environment change it.

    Attributes:
        tries: attempts without progress.
        stall: seconds without a byte after which a connection counts as lost.
        deadline: seconds without progress, all attempts together.
        delay: seconds before the second attempt; doubled for each further one, up to 30.
    """

    tries: int = 6
    stall: float = 60.0
    deadline: float = 300.0
    delay: float = 0.5

    @classmethod
    def from_environment(cls) -> Patience:
        """Raises UserError where a variable is no number above 0."""
        given: dict[str, Any] = {}
        for name, kind in (("tries", int), ("stall", float), ("deadline", float), ("delay", float)):
            text = os.environ.get(variable := f"CGAN_REMOTE_{name.upper()}")
            if text is None:
                continue
            try:
                given[name] = kind(text)
            except ValueError:
                given[name] = 0
            if not 0 < given[name] < 1e6:
                raise UserError(f"{variable}={text!r} in the environment: it must be a number above 0")
        return cls(**given)


class Connection:
    """Files under a location, read by range; for one process (make another one after a fork).

    Raises:
        UserError: the protocol is unknown, or its package is missing.
    """

    def __init__(self, location: Location, patience: Patience) -> None:
        self.location, self.patience = location, patience
        self._store = connect(self.location, self.patience.stall)

    def size(self, name: str) -> int | None:
        """Bytes of a file, if the server tells; raises as `stream` does."""
        return next(self._tried(name, lambda: self._size(name)))

    def read(self, name: str, limit: int) -> bytes:
        """A whole small file; raises as `stream` does, and Failure when it has more than ``limit`` bytes."""
        size = self.size(name)
        if size is None or size <= limit:
            data = b"".join(self.stream(name, 0, limit + 1 if size is None else size, exact=size is not None))
            if len(data) <= limit:
                return data
        raise Failure(f"{self.location}/{name}: more than {limit:,} bytes, which it should not have")

    def stream(
        self, name: str, start: int, stop: int, *, exact: bool = True, since: float | None = None
    ) -> Iterator[bytes]:
        """The bytes [start, stop) of a file; after a lost connection they go on where it broke.

        Args:
            exact: whether an end before ``stop`` is a loss.
            since: on the monotonic clock: until then others tried in vain, which counts as if this had; else from now.

        Raises:
            UserError: there is no such file, or it may not be read.
            Failure: no connection holds; said within `Patience.deadline` + `Patience.stall` seconds.
        """
        at, url = start, self.location.file(name)

        def attempt() -> Iterator[bytes]:
            nonlocal at
            if at < stop:
                begin, store = at, self._store
                for data in _watched(lambda: store.chunks(url, begin, stop), self.patience.stall):
                    data = data[: stop - at]
                    at += len(data)
                    yield data
                    if at == stop:
                        return
                if exact:
                    self._ended(name, at, stop)

        yield from self._tried(name, attempt, since)

    def _size(self, name: str) -> Iterator[int | None]:
        url, store = self.location.file(name), self._store
        return _watched(lambda: iter([store.size(url)]), self.patience.stall)

    def _ended(self, name: str, at: int, stop: int) -> None:
        """An answer was short: is the file, or did the connection break?"""
        size = next(self._size(name))
        if size is not None and size < stop:
            raise Refused(f"it has {size:,} bytes where {stop:,} are needed; copy it there again")
        raise Lost(f"the answer ended at byte {at:,} of {stop:,}")

    def _tried(self, name: str, attempt: Callable[[], Iterator[Item]], since: float | None = None) -> Iterator[Item]:
        """What an attempt yields; one that is lost is followed by another, after a pause."""
        failed, last = 0, time.monotonic() if since is None else since
        while True:
            brought = 0
            try:
                for item in attempt():
                    brought += len(item) if isinstance(item, bytes) else 0
                    yield item
                return
            except Refused as error:
                raise UserError(f"{self.location}/{name}: {self.location.scrub(str(error))}") from None
            except (Lost, OSError, http.client.HTTPException) as error:
                reason = self.location.scrub(str(error) or type(error).__name__)
            if brought >= _PROGRESS:
                failed, last = 0, time.monotonic()
            failed += 1
            pause = min(_LONGEST_PAUSE, self.patience.delay * 2 ** (failed - 1))
            if failed >= self.patience.tries or time.monotonic() + pause - last > self.patience.deadline:
                tries = f"{failed} tries" if failed > 1 else "1 try"
                raise Failure(
                    f"{self.location}/{name}: cannot be fetched, after {tries} ({reason}); "
                    "see to its server and the network"
                )
            time.sleep(pause)
            # A client that has stalled once is not asked again.
            self._store = connect(self.location, self.patience.stall)


def _watched(work: Callable[[], Iterator[Item]], stall: float) -> Iterator[Item]:
    """What ``work`` yields, done in a thread that is left to itself when it is silent for ``stall`` seconds.

    Raises:
        Lost: it was silent. Whatever else ``work`` raises.
    """
    said: queue.Queue[tuple[str, Any]] = queue.Queue(2)
    left = threading.Event()

    def offer(kind: str, content: Any) -> bool:
        while not left.is_set():
            try:
                said.put((kind, content), timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def run() -> None:
        try:
            for item in work():
                if not offer("item", item):
                    return
            offer("end", None)
        except BaseException as error:
            offer("error", error)

    threading.Thread(target=run, name="transfer", daemon=True).start()
    try:
        while True:
            try:
                kind, content = said.get(timeout=stall)
            except queue.Empty:
                raise Lost(f"no answer for {stall:g} s") from None
            if kind == "error":
                raise content
            if kind == "end":
                return
            yield content
    finally:
        left.set()
