"""Read byte ranges of remote files, with a stall timeout and retries.

For every protocol, a transfer without a byte for some time counts as a lost connection.
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
from shards.remote.stores import ConnectionLost, RequestRefused, open_store

_LONGEST_PAUSE = 30.0  # seconds between attempts
_SLOWEST = 1000  # bytes per second, over the time after which a silent connection counts as lost
_PROGRESS = 1 << 16  # bytes that a broken connection must have transferred to reset the number of retries

Item = TypeVar("Item")


@dataclass(frozen=True)
class RetryPolicy:
    """Limits of retries; the environment variables CGAN_REMOTE_TRIES, _STALL, _DEADLINE and _DELAY override them.

    Attributes:
        tries: maximum number of attempts without progress.
        stall: seconds without a byte after which a connection counts as lost.
        deadline: maximum seconds without progress over all attempts.
        delay: seconds before the second attempt; doubled for each further attempt, up to 30.
    """

    tries: int = 6
    stall: float = 60.0
    deadline: float = 300.0
    delay: float = 0.5

    @classmethod
    def from_environment(cls) -> RetryPolicy:
        """Return the policy with the overrides of the environment; raises UserError if one is not a positive number."""
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
                raise UserError(
                    "invalid-environment", f"environment variable {variable}={text!r} must be a number above 0"
                )
        return cls(**given)


class Connection:
    """Reads byte ranges of files under a location; for one process (create another one after a fork).

    Raises:
        UserError: the protocol is unknown, or its package is missing.
    """

    def __init__(self, location: Location, policy: RetryPolicy) -> None:
        self.location, self.policy = location, policy
        self._store = open_store(self.location, self.policy.stall)

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, None if the server does not report it; raises like `stream`."""
        return next(self._retry(name, lambda: self._size(name)))

    def read(self, name: str, limit: int) -> bytes:
        """Return a whole small file; raises like `stream`, and Failure if it has more than ``limit`` bytes."""
        size = self.size(name)
        if size is None or size <= limit:
            data = b"".join(self.stream(name, 0, limit + 1 if size is None else size, exact=size is not None))
            if len(data) <= limit:
                return data
        raise Failure("file-too-large", f"{self.location}/{name}: more than {limit:,} bytes")

    def stream(
        self, name: str, start: int, stop: int, *, exact: bool = True, since: float | None = None
    ) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a file; a lost connection is resumed where it broke.

        Args:
            exact: treat an end before ``stop`` as a lost connection.
            since: time (monotonic clock) of the last progress, if another process has tried before; default: now.

        Raises:
            UserError: there is no such file, or access is denied.
            Failure: the file could not be read; raised within `RetryPolicy.deadline` + `RetryPolicy.stall` seconds.
        """
        at, url = start, self.location.file(name)

        def attempt() -> Iterator[bytes]:
            nonlocal at
            if at < stop:
                begin, store = at, self._store
                for data in _with_stall_timeout(lambda: store.chunks(url, begin, stop), self.policy.stall):
                    data = data[: stop - at]
                    at += len(data)
                    yield data
                    if at == stop:
                        return
                if exact:
                    self._raise_short(name, at, stop)

        yield from self._retry(name, attempt, since)

    def _size(self, name: str) -> Iterator[int | None]:
        url, store = self.location.file(name), self._store
        return _with_stall_timeout(lambda: iter([store.size(url)]), self.policy.stall)

    def _raise_short(self, name: str, at: int, stop: int) -> None:
        """Raise the reason for a short answer: the file is too short, or the connection broke."""
        size = next(self._size(name))
        if size is not None and size < stop:
            raise RequestRefused("file-too-short", f"{size:,} bytes instead of {stop:,}; upload it again")
        raise ConnectionLost(f"the answer ended at byte {at:,} of {stop:,}")

    def _retry(self, name: str, attempt: Callable[[], Iterator[Item]], since: float | None = None) -> Iterator[Item]:
        """Yield what an attempt yields; after a lost connection, pause and try again."""
        failed, last = 0, time.monotonic() if since is None else since
        while True:
            received = 0
            try:
                for item in attempt():
                    received += len(item) if isinstance(item, bytes) else 0
                    yield item
                return
            except RequestRefused as error:
                raise UserError(error.code, f"{self.location}/{name}: {self.location.scrub(str(error))}") from None
            # ValueError: an answer that leads to an invalid URL.
            except (ConnectionLost, OSError, http.client.HTTPException, ValueError) as error:
                reason = self.location.scrub(str(error) or type(error).__name__)
            if received >= _PROGRESS:
                failed, last = 0, time.monotonic()
            failed += 1
            pause = min(_LONGEST_PAUSE, self.policy.delay * 2 ** (failed - 1))
            if failed >= self.policy.tries or time.monotonic() + pause - last > self.policy.deadline:
                tries = f"{failed} tries" if failed > 1 else "1 try"
                raise Failure(
                    "fetch-failed",
                    f"{self.location}/{name}: cannot be fetched, after {tries} ({reason}); "
                    "check the server and the network",
                )
            time.sleep(pause)
            # A client that has stalled once is not used again.
            self._store = open_store(self.location, self.policy.stall)


def _with_stall_timeout(work: Callable[[], Iterator[Item]], stall: float) -> Iterator[Item]:
    """Yield what ``work`` yields; it runs in a thread, which is abandoned if it yields nothing for ``stall`` seconds.

    Raises:
        ConnectionLost: it stalled, or drips: less than `_SLOWEST`. Also whatever ``work`` raises.
    """
    results: queue.Queue[tuple[str, Any]] = queue.Queue(2)
    abandoned = threading.Event()

    def offer(kind: str, content: Any) -> bool:
        while not abandoned.is_set():
            try:
                results.put((kind, content), timeout=0.2)
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
    received, waited = 0, 0.0
    try:
        while True:
            begin = time.monotonic()
            try:
                kind, content = results.get(timeout=stall)
            except queue.Empty:
                raise ConnectionLost(f"no answer for {stall:g} s") from None
            waited += time.monotonic() - begin
            piece: object = content
            received += len(piece) if isinstance(piece, bytes) else 0
            if received > _SLOWEST * stall or piece == b"":  # an empty piece stands for bytes that were skipped
                received, waited = 0, 0.0
            elif kind == "item" and waited > stall:
                raise ConnectionLost(f"less than {_SLOWEST:,} bytes per second for {stall:g} s")
            if kind == "error":
                raise content
            if kind == "end":
                return
            yield content
    finally:
        abandoned.set()
