"""Locks on files between processes; they end with their holders, so that a crash leaves none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shards.core import atomic_io
from shards.core.errors import Failure


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Lock a file and return its descriptor, whose closing releases it; None if another process holds the lock."""
    with atomic_io.explain_disk_errors(path):
        handle = _open(path)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass  # locked by another process, or renamed in between
        os.close(handle)
    return None


def _open(path: Path) -> int:
    flags = os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | flags, 0o644)
    except PermissionError:
        if not path.exists():
            raise
        return os.open(path, os.O_RDONLY | flags)  # another user's, which can be locked all the same


def wait_for(path: Path, kind: int = fcntl.LOCK_EX, limit: float = 120.0) -> int:
    """Wait for a lock that is held for moments only, and return its descriptor."""
    end = time.monotonic() + limit
    while (handle := try_lock(path, kind)) is None:
        if time.monotonic() > end:
            raise Failure("cache-locked", f"{path}: locked for {limit:g} s by a process that is stuck; end it")
        time.sleep(0.01)
    return handle


@contextlib.contextmanager
def held(lock: int) -> Iterator[None]:
    """Release a lock at the end, even if a process forked meanwhile has inherited its descriptor."""
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)
