"""Reading from shards whose files stay open."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable

from shards.core.errors import Failure
from shards.remote.cache import mark_used

# Shards held open by a thread, as far as the system lets us; a pread needs no shared position, so forked workers may
# inherit them.
_ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
_OPEN_FILES = 512 if _ALLOWED == resource.RLIM_INFINITY else max(16, min(512, _ALLOWED // 4))
_SWEEP = 1.0  # seconds between two looks for shards that are open and were evicted
_TOUCH = 10.0  # seconds after which a cached shard that is being read is marked as used again


class ShardReader(threading.local):
    """Shards held open for reading, a few at a time, each thread its own."""

    def __init__(self, open_shard: Callable[[int], int], name: Callable[[int], str], *, cached: bool) -> None:
        self.open_shard, self.name, self.cached = open_shard, name, cached
        self.handles: dict[int, _Handle] = {}
        self.swept = 0.0

    def read(self, shard: int, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._number(shard), length, offset)
        except OSError as error:
            raise self._unreadable(shard, offset, error) from None
        self._check(shard, offset, length, len(data))
        return data

    def read_into(self, shard: int, offset: int, buffer: memoryview) -> None:
        try:
            count = _pread_into(self._number(shard), buffer, offset)
        except OSError as error:
            raise self._unreadable(shard, offset, error) from None
        self._check(shard, offset, buffer.nbytes, count)

    def _number(self, shard: int) -> int:
        """The descriptor of a shard."""
        handle = self.handles.get(shard) or self._open(shard)
        if self.cached:
            handle.touch()
        return handle.number

    def _unreadable(self, shard: int, offset: int, error: OSError) -> Failure:
        return Failure(f"{self.name(shard)}: cannot be read at byte {offset:,} ({error.strerror})")

    def _check(self, shard: int, offset: int, wanted: int, found: int) -> None:
        if found != wanted:
            end = offset + wanted
            raise Failure(f"{self.name(shard)}: ends before byte {end:,}; the file was changed after packing")

    def _open(self, shard: int) -> _Handle:
        if self.cached and time.monotonic() > self.swept + _SWEEP:
            # A file that was evicted gives its space back only when nobody holds it open.
            self.swept = time.monotonic()
            self.handles = {number: handle for number, handle in self.handles.items() if not handle.removed()}
        while len(self.handles) >= _OPEN_FILES:
            del self.handles[next(iter(self.handles))]
        self.handles[shard] = handle = _Handle(self.open_shard(shard))
        return handle


class _Handle:
    """An open file descriptor that closes with its last reference."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.touched = time.monotonic()

    def __del__(self) -> None:
        os.close(self.number)

    def removed(self) -> bool:
        return os.fstat(self.number).st_nlink == 0

    def touch(self) -> None:
        """Bring the last use up to date now and then, by which the cache decides what to evict."""
        if (now := time.monotonic()) > self.touched + _TOUCH:
            self.touched = now
            mark_used(self.number)


def _pread_into(number: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(number, [buffer], offset)
    data = os.pread(number, buffer.nbytes, offset)  # older macOS
    buffer[: len(data)] = data
    return len(data)
