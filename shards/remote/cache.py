"""Shards that lie elsewhere, kept whole on a local disk: fetched once, checked, and the longest unused make room.

A data set has a folder of its own in the cache, named by its URL and its manifest's hash, so that nothing of another
data set, or of an older state of this one, can be taken for it. There is no table to keep in step: what the cache holds
is what lies there. Processes meet in file locks, which end with whoever holds them. Of each file

- mtime is set to a seal made from its sha256: what was changed later no longer bears it and is hashed again;
- atime is the last use;
- the one being fetched is `.NAME.BYTES.part`: locked by who fetches, counted with all its bytes, resumed by the next.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from shards.core import atomic_io
from shards.core.cache_home import cache_home
from shards.core.errors import Failure, UserError
from shards.remote.fetch import Connection, Patience
from shards.remote.location import Location

LIMIT = 50 * 10**9  # bytes
LARGEST_MANIFEST = 256 << 20  # bytes

_IN_USE = ".in-use"  # locked (shared) by every data set that is open; also marks a folder as the cache's own
_ROOM = re.compile(r".+-[0-9a-f]{24}", re.DOTALL)
_PARTIAL = re.compile(r"\.(.+)\.(\d+)\.part", re.DOTALL)
_BLOCK = 1 << 20  # bytes


class File(NamedTuple):
    """A file of a data set, as its manifest has it."""

    name: str
    bytes: int
    sha256: str


def default_cache() -> Path:
    """Where shards are kept if nothing else was said."""
    return cache_home() / "shards"


@dataclass(frozen=True)
class Room:
    """The place of one data set in the cache. Picklable; safe for any number of processes and threads.

    Attributes:
        location: where the data set lies.
        folder: where its files are kept.
        limit: bytes that the whole cache (the folder above) may hold.
    """

    location: Location
    folder: Path
    limit: int

    @classmethod
    def enter(cls, location: Location, cache: Path, limit: int, manifest: str) -> tuple[Room, Hold]:
        """Fetch the file named ``manifest``, and make or find the room for the data set that it describes.

        Raises:
            UserError: there is no data set, or it may not be read.
            Failure: the server does not answer, or the disk refuses.
        """
        content = _connection(location).read(manifest, LARGEST_MANIFEST)
        digest = hashlib.sha256(location.identity.encode() + b"\n" + content).hexdigest()[:24]
        name = re.sub(r"[^A-Za-z0-9]+", "-", "".join(urlsplit(location.identity)[1:3])).strip("-")[-60:]
        room = cls(location, Path(os.path.abspath(cache)) / f"{name or 'data'}-{digest}", limit)  # noqa: PTH100
        with atomic_io.explain_disk_errors(room.folder):
            room.folder.mkdir(parents=True, exist_ok=True)
        hold = Hold(room.folder)
        path = room.folder / manifest
        if not path.is_file() or path.read_bytes() != content:
            atomic_io.write_bytes(path, content)
        return room, hold

    def size(self, name: str) -> int | None:
        """Bytes of a file where it lies, if the server tells; raises as `open` does."""
        return _connection(self.location).size(name)

    def open(self, file: File) -> int:
        """A descriptor of a file, which is whole and as the manifest says; fetched if it is not here.

        It stays readable when the file is evicted.

        Raises:
            UserError: it is not where the manifest says, or it is larger than the whole cache.
            Failure: it cannot be fetched, differs from the manifest, or finds no room.
        """
        if file.bytes > self.limit:
            raise UserError(
                f"{self.location}/{file.name}: {file.bytes:,} bytes, and the cache may hold {self.limit:,}; "
                "give it a larger --cache-limit"
            )
        handle = self._present(file)
        while handle is None:
            handle = self._fetch(file, wait=True)
        return handle

    def fetch_ahead(self, file: File) -> None:
        """Have a file here; one that another process is just fetching is left to it. Raises as `open` does."""
        handle = self._present(file)
        if handle is None and file.bytes <= self.limit:
            handle = self._fetch(file, wait=False)
        if handle is not None:
            os.close(handle)

    def _present(self, file: File) -> int | None:
        """A descriptor of a file that is here and right; one that is not right is removed."""
        path = self.folder / file.name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return None
        found = os.fstat(handle)
        right = found.st_size == file.bytes
        if right and found.st_mtime_ns != seal(file.sha256):
            right = _digest(handle).hexdigest() == file.sha256
        if right:
            mark_used(handle, seal(file.sha256))
            return handle
        os.close(handle)
        path.unlink(missing_ok=True)
        return None

    def _fetch(self, file: File, wait: bool) -> int | None:
        """Fetch a file, or wait for who is fetching it; None where ``wait`` is false and another is."""
        path, partial = self.folder / file.name, self.folder / f".{file.name}.{file.bytes}.part"
        patience = Patience.from_environment()
        last, size, in_vain = time.monotonic(), 0, False
        while True:
            handle = _lock(partial)
            if handle is not None:
                with _held(handle):
                    if (here := self._present(file)) is not None:  # fetched while we waited
                        partial.unlink(missing_ok=True)
                        return here
                    if self._make_room(file.bytes, partial):
                        self._download(handle, file, partial, last if in_vain else None)
                        here = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
                        with atomic_io.explain_disk_errors(path):
                            partial.replace(path)
                            atomic_io.fsync_directory(self.folder)
                        return here
                    if not os.fstat(handle).st_size:
                        partial.unlink(missing_ok=True)  # a place is not kept while nothing can be put there
            elif (here := self._present(file)) is not None:
                return here
            if not wait:
                return None
            in_vain = handle is None  # if the one who holds it gives up, we do not begin with fresh patience
            before, size = size, _size(partial)
            if size > before:
                last = time.monotonic()
            if time.monotonic() - last > patience.deadline + patience.stall:
                why = "is locked by a process that does not go on" if handle is None else "finds no room in the cache"
                raise Failure(f"{path}: {why}; end other runs, or give a larger --cache-limit or another --cache")
            time.sleep(0.05)

    def _download(self, handle: int, file: File, partial: Path, since: float | None) -> None:
        """Complete the partial file, from where an earlier process left it; on a wrong hash once more from the start.

        Args:
            since: when its size last grew under another's hands, if another has just tried.

        Raises:
            Failure: the second is wrong too. Else as `shards.remote.fetch.Connection.stream`.
        """
        for _ in range(2):
            if os.fstat(handle).st_size > file.bytes:
                os.ftruncate(handle, 0)
            digest = _digest(handle)
            at = os.lseek(handle, 0, os.SEEK_END)
            for data in _connection(self.location).stream(file.name, at, file.bytes, since=since):
                self._write(handle, data, partial)
                digest.update(data)
            if digest.hexdigest() == file.sha256:
                with atomic_io.explain_disk_errors(partial):
                    mark_used(handle, seal(file.sha256))
                    os.fsync(handle)
                return
            os.ftruncate(handle, 0)
        partial.unlink(missing_ok=True)
        raise Failure(
            f"{self.location}/{file.name}: arrived twice with another sha256 than the manifest has; copy it there again"
        )

    def _write(self, handle: int, data: bytes, partial: Path) -> None:
        view = memoryview(data)
        try:
            with atomic_io.explain_disk_errors(partial):
                while view:
                    view = view[os.write(handle, view) :]
        except Failure:
            partial.unlink(missing_ok=True)  # half a shard is no reason to leave the disk full
            raise

    # ---------------------------------------------------------------- room

    def _make_room(self, need: int, own: Path) -> bool:
        """Evict what was unused longest until ``need`` bytes fit; false when what is left is in use."""
        cache = self.folder.parent
        with atomic_io.explain_disk_errors(cache), _held(_wait_for(cache / ".lock")):
            kept = [file for file in _contents(cache) if file.path != own]
            excess = sum(file.bytes for file in kept) + need - self.limit
            for file in sorted(kept, key=lambda file: file.used):
                if excess <= 0:
                    break
                if _evict(file.path):
                    excess -= file.bytes
        return excess <= 0


class Hold:
    """Keeps a data set's sidecars in the cache for as long as it lives, and in processes forked from this one."""

    def __init__(self, folder: Path) -> None:
        self._number = -1
        self._number = _wait_for(folder / _IN_USE, fcntl.LOCK_SH)

    def __del__(self) -> None:
        if self._number >= 0:
            os.close(self._number)


def seal(sha256: str) -> int:
    """The mtime, in nanoseconds, of a cached file with this hash: a whole second in the years 1970 to 1978."""
    try:
        return int(sha256[:7], 16) * 10**9
    except ValueError:
        return 0


def mark_used(handle: int, mtime: int | None = None) -> None:
    """Note that a cached file, open at a descriptor, is in use now; ``mtime`` in nanoseconds, or as it is."""
    if mtime is None:
        mtime = os.fstat(handle).st_mtime_ns
    with contextlib.suppress(PermissionError):  # another user's file in a shared cache
        os.utime(handle, ns=(time.time_ns(), mtime))


# ---------------------------------------------------------------- files and locks


class _Found(NamedTuple):
    path: Path
    bytes: int
    used: int  # nanoseconds


def _contents(cache: Path) -> Iterator[_Found]:
    """What the cache holds. A folder that is not the cache's own is not looked into, whatever --cache names."""
    for folder in cache.iterdir():
        if not _ROOM.fullmatch(folder.name) or not (folder / _IN_USE).is_file():
            continue
        with os.scandir(folder) as entries:
            for entry in entries:
                with contextlib.suppress(FileNotFoundError):
                    found = entry.stat(follow_symlinks=False)
                    partial = _PARTIAL.fullmatch(entry.name)
                    if entry.name != _IN_USE:
                        size = int(partial[2]) if partial else found.st_size
                        yield _Found(folder / entry.name, size, found.st_mtime_ns if partial else found.st_atime_ns)


def _evict(path: Path) -> bool:
    """Remove a file that nobody needs whole; who has a shard open reads on."""
    lock = None
    if path.suffix != ".tar":  # someone may be writing a partial file, or have mapped a sidecar
        lock = _lock(path if _PARTIAL.fullmatch(path.name) else path.parent / _IN_USE)
        if lock is None:
            return False
    with contextlib.nullcontext() if lock is None else _held(lock):
        try:
            path.unlink(missing_ok=True)
        except PermissionError:  # another user's
            return False
    return True


def _lock(path: Path, kind: int = fcntl.LOCK_EX) -> int | None:
    """A descriptor of a file that is now locked; None if another holds it. The lock ends when it is closed."""
    with atomic_io.explain_disk_errors(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(handle, kind | fcntl.LOCK_NB)
            if path.stat().st_ino == os.fstat(handle).st_ino:
                return handle
        except (BlockingIOError, FileNotFoundError):
            pass  # held, or renamed in between
        os.close(handle)
    return None


def _wait_for(path: Path, kind: int = fcntl.LOCK_EX, limit: float = 120.0) -> int:
    """`_lock` for a lock that is only ever held for a moment."""
    end = time.monotonic() + limit
    while (handle := _lock(path, kind)) is None:
        if time.monotonic() > end:
            raise Failure(f"{path}: locked for {limit:g} s by a process that does not go on; end it")
        time.sleep(0.01)
    return handle


@contextlib.contextmanager
def _held(lock: int) -> Iterator[None]:
    """Let a lock go at the end, also where a process that was forked meanwhile has inherited its descriptor."""
    try:
        yield
    finally:
        fcntl.flock(lock, fcntl.LOCK_UN)
        os.close(lock)


def _digest(handle: int) -> hashlib._Hash:
    """SHA-256 of all that a descriptor's file holds."""
    digest, at = hashlib.sha256(), 0
    while data := os.pread(handle, _BLOCK, at):
        digest.update(data)
        at += len(data)
    return digest


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


_connections: dict[tuple[int, str, Patience], Connection] = {}


def _connection(location: Location) -> Connection:
    """This process's connection to a place: clients do not survive a fork."""
    patience = Patience.from_environment()
    key = (os.getpid(), location.url, patience)
    if key not in _connections:
        _connections[key] = Connection(location, patience)
    return _connections[key]
