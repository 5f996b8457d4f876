"""Locks on files between processes; they end with their holders, so that a crash leaves none."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from shards.core import atomic_io
from shards.core.errors import Failure, UserError

_ATTEMPTS = 100


def try_lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """Lock a file, which is created, and return its descriptor, whose closing releases it.

    Args:
        path: the file. Its holder may rename or remove it.
        kind: of lock, as in `fcntl.flock`.

    Returns:
        None if another process holds the lock.

    Raises:
        Failure: the file cannot be created.
    """
    with atomic_io.explain_disk_errors(path):
        for _ in range(_ATTEMPTS):
            handle = _open(path)
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(path.stat(), os.fstat(handle)):
                        return handle
            except BlockingIOError:
                os.close(handle)
                return None
            os.close(handle)  # renamed or removed before it was locked: the lock is another file now
    raise Failure("disk-error", f"{path}: cannot be locked; other processes keep replacing it")


@contextlib.contextmanager
def locked(path: Path, busy: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file for the duration of the block; it is released when the process ends in whatever way.

    Args:
        path: the lock file, which is created.
        busy: the message of the error if another process holds the lock.
        shared: allow other processes that lock it with ``shared`` too.

    Raises:
        UserError: another process holds the lock.
        Failure: the file cannot be created.
    """
    handle = try_lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    if handle is None:
        raise UserError("in-use", busy)
    try:
        yield
    finally:
        os.close(handle)


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
