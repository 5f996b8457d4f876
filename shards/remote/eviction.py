"""Keep the cache within its limit: remove the files used longest ago, but none that is in use.

The names that files have in the cache are defined here, as they say what may be removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shards.core import atomic_io, file_lock

ALL_ACCESS = os.R_OK | os.W_OK | os.X_OK
_IN_USE = ".in-use"  # locked (shared) while the dataset is open anywhere; also identifies directories of the cache
_DATASET_DIRECTORY = re.compile(r".+-[0-9a-f]{24}", re.DOTALL)
_PARTIAL = re.compile(r"\.(.+)\.(\d+)\.part", re.DOTALL)


def partial_name(name: str, size: int) -> str:
    """Return what a file of ``size`` bytes is called while it is fetched."""
    return f".{name}.{size}.part"


class CacheLease:
    """Protects the sidecars of a dataset from eviction while it exists, also in processes forked from this one."""

    def __init__(self, folder: Path) -> None:
        self._lock = -1
        self._lock = file_lock.wait_for(folder / _IN_USE, fcntl.LOCK_SH)

    def __del__(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)


def make_space(cache: Path, need: int, limit: int, own: Path) -> bool:
    """Remove the files used longest ago until ``need`` more bytes fit.

    Args:
        cache: the directory of all datasets.
        need: bytes.
        limit: maximum size of the cache in bytes.
        own: the partial file that the space is for, which does not count.

    Returns:
        whether they fit; they do not if the remaining files are in use.

    Raises:
        Failure: the disk reports an error.
    """
    with atomic_io.explain_disk_errors(cache), file_lock.held(file_lock.wait_for(cache / ".lock")):
        kept = [file for file in _contents(cache) if file.path != own]
        excess = sum(file.bytes for file in kept) + need - limit
        for file in sorted(kept, key=lambda file: file.used):
            if excess <= 0:
                break
            if _remove(file.path):
                excess -= file.bytes
    return excess <= 0


class _CachedFile(NamedTuple):
    path: Path
    bytes: int
    used: int  # nanoseconds


def _contents(cache: Path) -> Iterator[_CachedFile]:
    """Yield the files that this user can remove; directories that the cache did not create are ignored."""
    for folder in cache.iterdir():
        ours = _DATASET_DIRECTORY.fullmatch(folder.name) and os.access(folder, ALL_ACCESS)
        if ours and (folder / _IN_USE).is_file():
            for path in folder.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if path.name != _IN_USE:
                        yield _cached_file(path)


def _cached_file(path: Path) -> _CachedFile:
    """Return what a file counts for: a partial one for its final size, as that is what it will take."""
    found = path.stat(follow_symlinks=False)
    if partial := _PARTIAL.fullmatch(path.name):
        return _CachedFile(path, int(partial[2]), found.st_mtime_ns)
    return _CachedFile(path, found.st_size, found.st_atime_ns)


def _remove(path: Path) -> bool:
    """Remove a file unless it is needed under its name; an open shard stays readable."""
    lock = None
    if path.suffix != ".tar":  # a partial file may be written, or a sidecar mapped, by another process
        lock = file_lock.try_lock(path if _PARTIAL.fullmatch(path.name) else path.parent / _IN_USE)
        if lock is None:
            return False
    with contextlib.nullcontext() if lock is None else file_lock.held(lock):
        try:
            path.unlink(missing_ok=True)
        except PermissionError:  # another user's
            return False
    return True
