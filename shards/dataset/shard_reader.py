"""Read byte ranges of shards, whose files stay open."""

from __future__ import annotations

import os
import resource
import threading
import time
from collections.abc import Callable

from shards.core.errors import Failure
from shards.remote.cache import mark_used

# Files that a thread keeps open, within the limits of the system. Forked workers may inherit them, for pread shares no
# file position.
_ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
_OPEN_FILES = 512 if _ALLOWED == resource.RLIM_INFINITY else max(16, min(512, _ALLOWED // 4))
_SWEEP = 1.0  # seconds between two checks for open files that were evicted
_TOUCH = 10.0  # seconds after which a cached shard that is in use is marked as used again


class ShardReader(threading.local):
    """Reads from shards and keeps a limited number of them open; each thread has its own.

    Args:
        open_shard: returns a new descriptor of a shard.
        name: returns the name of a shard for messages.
        cached: True if shards are in a cache, from which they may be evicted.
    """

    def __init__(self, open_shard: Callable[[int], int], name: Callable[[int], str], *, cached: bool) -> None:
        self.open_shard, self.name, self.cached = open_shard, name, cached
        self.handles: dict[int, _Handle] = {}
        self.swept = 0.0

    def read(self, shard: int, offset: int, length: int) -> bytes:
        try:
            data = os.pread(self._descriptor(shard), length, offset)
        except OSError as error:
            raise self._unreadable(shard, offset, error) from None
        self._check(shard, offset, length, len(data))
        return data

    def read_into(self, shard: int, offset: int, buffer: memoryview) -> None:
        try:
            count = _pread_into(self._descriptor(shard), buffer, offset)
        except OSError as error:
            raise self._unreadable(shard, offset, error) from None
        self._check(shard, offset, buffer.nbytes, count)

    def _descriptor(self, shard: int) -> int:
        handle = self.handles.get(shard) or self._open(shard)
        if self.cached:
            handle.touch()
        return handle.descriptor

    def _unreadable(self, shard: int, offset: int, error: OSError) -> Failure:
        return Failure("shard-unreadable", f"{self.name(shard)}: cannot be read at byte {offset:,} ({error.strerror})")

    def _check(self, shard: int, offset: int, wanted: int, found: int) -> None:
        if found != wanted:
            end = offset + wanted
            raise Failure(
                "shard-changed", f"{self.name(shard)}: ends before byte {end:,}; it was changed after packing"
            )

    def _open(self, shard: int) -> _Handle:
        if self.cached and time.monotonic() > self.swept + _SWEEP:
            # The space of an evicted file is free only once no process has it open.
            self.swept = time.monotonic()
            self.handles = {number: handle for number, handle in self.handles.items() if not handle.removed()}
        while len(self.handles) >= _OPEN_FILES:
            del self.handles[next(iter(self.handles))]
        self.handles[shard] = handle = _Handle(self.open_shard(shard))
        return handle


class _Handle:
    """An open file descriptor that closes with its last reference."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.touched = time.monotonic()

    def __del__(self) -> None:
        os.close(self.descriptor)

    def removed(self) -> bool:
        return os.fstat(self.descriptor).st_nlink == 0

    def touch(self) -> None:
        """Update the time of last use from time to time; the cache evicts by it."""
        if (now := time.monotonic()) > self.touched + _TOUCH:
            self.touched = now
            mark_used(self.descriptor)


def _pread_into(descriptor: int, buffer: memoryview, offset: int) -> int:
    if hasattr(os, "preadv"):
        return os.preadv(descriptor, [buffer], offset)
    data = os.pread(descriptor, buffer.nbytes, offset)  # older macOS
    buffer[: len(data)] = data
    return len(data)
