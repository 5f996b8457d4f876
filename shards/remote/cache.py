"""A local cache of remote datasets: whole files, fetched once and verified; the least recently used are evicted.

A dataset has a directory in the cache, named by its URL and the hash of its manifest, so that files of another dataset,
or of another version of this one, are never mistaken for it. There is no database to keep consistent: the files are the
only state. Processes coordinate through file locks, which end with their holders. For each file

- mtime is a mark made from its sha256: a file that was changed later has another mtime, and is hashed again;
- atime is the time of its last use;
- `.NAME.BYTES.part` is the file while it is fetched: locked by the fetching process, counted with its final size, and
  resumed by the next process.

Users may share a cache. A user who cannot write to a dataset's directory gets a separate one next to it. A file that
another user left is hashed before use, whatever its mark, and its partial file is not continued.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from shards.core import atomic_io, file_lock
from shards.core.cache_home import cache_home
from shards.core.errors import Failure, UserError
from shards.remote.eviction import ALL_ACCESS, CacheLease, make_space, partial_name
from shards.remote.fetch import Connection, RetryPolicy
from shards.remote.location import Location

LIMIT = 50 * 10**9  # bytes
LARGEST_MANIFEST = 256 << 20  # bytes

_BLOCK = 1 << 20  # bytes


class FileRecord(NamedTuple):
    """A file of a dataset, as recorded in its manifest."""

    name: str
    bytes: int
    sha256: str


def default_cache() -> Path:
    """Return the default directory for cached shards."""
    return cache_home() / "shards"


@dataclass(frozen=True)
class CachedDataset:
    """The directory of one remote dataset in the cache. Picklable; safe for any number of processes and threads.

    Attributes:
        location: the location of the dataset.
        folder: the directory of its cached files.
        limit: maximum size in bytes of the whole cache (the parent directory).
    """

    location: Location
    folder: Path
    limit: int

    @classmethod
    def create(cls, location: Location, cache: Path, limit: int, manifest: str) -> tuple[CachedDataset, CacheLease]:
        """Fetch the file named ``manifest``, and create or find the directory of the dataset that it describes.

        Raises:
            UserError: there is no dataset, or access is denied.
            Failure: the server does not answer, or the disk reports an error.
        """
        content = _connection(location).read(manifest, LARGEST_MANIFEST)
        digest = hashlib.sha256(location.identity.encode() + b"\n" + content).hexdigest()[:24]
        name = re.sub(r"[^A-Za-z0-9]+", "-", "".join(urlsplit(location.identity)[1:3])).strip("-")[-60:]
        cached = cls(location, _dataset_directory(cache, f"{name or 'data'}-{digest}"), limit)
        lease = CacheLease(cached.folder)
        path = cached.folder / manifest
        with atomic_io.explain_disk_errors(path):
            if not path.is_file() or path.read_bytes() != content:
                atomic_io.write_bytes(path, content)
        return cached, lease

    def remote_size(self, name: str) -> int | None:
        """Return the size of a remote file in bytes, None if the server does not report it; raises like `open`."""
        return _connection(self.location).size(name)

    def open(self, file: FileRecord) -> int:
        """Return a descriptor of a complete, verified file, which is fetched if it is not cached.

        It stays readable when the file is evicted.

        Raises:
            UserError: the remote file is missing, or larger than the whole cache.
            Failure: it cannot be fetched, differs from the manifest, or there is no space in the cache.
        """
        if file.bytes > self.limit:
            raise UserError(
                "cache-too-small",
                f"{self.location}/{file.name}: {file.bytes:,} bytes exceed the cache limit of {self.limit:,}; "
                "raise --cache-limit",
            )
        handle = self._present(file)
        while handle is None:
            handle = self._fetch(file, wait=True)
        return handle

    def fetch_ahead(self, file: FileRecord) -> None:
        """Fetch a file unless it is cached or another process is fetching it; raises like `open`."""
        handle = self._present(file)
        if handle is None and file.bytes <= self.limit:
            handle = self._fetch(file, wait=False)
        if handle is not None:
            os.close(handle)

    def _present(self, file: FileRecord) -> int | None:
        """Return a descriptor of a file that is cached and intact; a file that is not intact is removed."""
        path = self.folder / file.name
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)  # a pipe would block
        except OSError:
            return None
        if _is_intact(handle, file):
            mark_used(handle, verified_mtime(file.sha256))
            return handle
        os.close(handle)
        with atomic_io.explain_disk_errors(path):
            path.unlink(missing_ok=True)
        return None

    def _fetch(self, file: FileRecord, wait: bool) -> int | None:
        """Fetch a file, or wait for the process that is fetching it; None if there is one and ``wait`` is False."""
        partial = self.folder / partial_name(file.name, file.bytes)
        policy = RetryPolicy.from_environment()
        progress, others_failed = _Progress(partial), False
        while True:
            handle = _lock_own(partial)
            if handle is None:
                found = self._present(file)
            else:
                with file_lock.held(handle):
                    found = self._fetch_locked(handle, file, partial, progress.last if others_failed else None)
            if found is not None or not wait:
                return found
            others_failed = handle is None  # if its holder gives up, its time without progress counts for us too
            if progress.seconds_without() > policy.deadline + policy.stall:
                raise _never_fetched(self.folder / file.name, locked=handle is None)
            time.sleep(0.05)

    def _fetch_locked(self, handle: int, file: FileRecord, partial: Path, since: float | None) -> int | None:
        """Fetch into the partial file that this process has locked; None if there is no space for it yet."""
        if (found := self._present(file)) is not None:  # another process fetched it while we waited
            partial.unlink(missing_ok=True)
            return found
        if not make_space(self.folder.parent, file.bytes, self.limit, partial):
            if not os.fstat(handle).st_size:
                partial.unlink(missing_ok=True)  # reserve no space for a file that cannot be fetched yet
            return None
        self._download(handle, file, partial, since)
        found = os.open(partial, os.O_RDONLY | os.O_CLOEXEC)
        with atomic_io.explain_disk_errors(partial):
            partial.replace(self.folder / file.name)
            atomic_io.fsync_directory(self.folder)
        return found

    def _download(self, handle: int, file: FileRecord, partial: Path, since: float | None) -> None:
        """Complete the partial file, from where an earlier process left it; retry once if the hash is wrong.

        Args:
            since: when another process, which has just tried, last made progress.

        Raises:
            Failure: the second hash is wrong too. Otherwise like `shards.remote.fetch.Connection.stream`.
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
                    mark_used(handle, verified_mtime(file.sha256))
                    os.fsync(handle)
                return
            os.ftruncate(handle, 0)
        partial.unlink(missing_ok=True)
        raise Failure(
            "hash-mismatch",
            f"{self.location}/{file.name}: wrong sha256 after two downloads; upload the file again",
        )

    def _write(self, handle: int, data: bytes, partial: Path) -> None:
        view = memoryview(data)
        try:
            with atomic_io.explain_disk_errors(partial):
                while view:
                    view = view[os.write(handle, view) :]
        except Failure:
            partial.unlink(missing_ok=True)  # do not leave the disk full for half a shard
            raise


def verified_mtime(sha256: str) -> int:
    """Return the mtime, in nanoseconds, that marks a file with this hash as verified: a second in 1970 to 1978."""
    try:
        return int(sha256[:7], 16) * 10**9
    except ValueError:
        return 0


def mark_used(handle: int, mtime: int | None = None) -> None:
    """Set a cached file's atime to now, and its mtime to ``mtime`` (nanoseconds; default: unchanged)."""
    if mtime is None:
        mtime = os.fstat(handle).st_mtime_ns
    with contextlib.suppress(PermissionError):  # another user's file in a shared cache
        os.utime(handle, ns=(time.time_ns(), mtime))


# ---------------------------------------------------------------- users


def _dataset_directory(cache: Path, name: str) -> Path:
    """Create or find a directory in the cache that this user can write to.

    Raises:
        UserError: the cache belongs to another user, or is not a directory.
        Failure: the disk reports another error.
    """
    folder = Path(os.path.abspath(cache)) / name  # noqa: PTH100
    if os.access(folder, os.F_OK) and not os.access(folder, ALL_ACCESS):
        folder = folder.with_name(f"user-{os.geteuid()}-{name}")
    try:
        with atomic_io.explain_disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except Failure as error:
        if isinstance(error.__cause__, PermissionError | NotADirectoryError | FileExistsError):
            reason = error.__cause__.strerror
            raise UserError(
                "cache-unwritable", f"{cache}: shards cannot be cached there ({reason}); choose another --cache"
            ) from None
        raise
    return folder


def _is_foreign(found: os.stat_result) -> bool:
    return found.st_uid != os.geteuid()


def _is_intact(handle: int, file: FileRecord) -> bool:
    """Return whether an open file has the recorded content: by its mark, if no other user can have made that."""
    found = os.fstat(handle)
    if found.st_size != file.bytes or not stat.S_ISREG(found.st_mode):
        return False
    if found.st_mtime_ns == verified_mtime(file.sha256) and not _is_foreign(found):
        return True
    signature = (found.st_dev, found.st_ino, found.st_ctime_ns, file.sha256)
    if signature not in _hashed and _digest(handle).hexdigest() == file.sha256:
        _hashed.add(signature)
    return signature in _hashed


_hashed: set[tuple[int, int, int, str]] = set()  # files of other users that this process has hashed


# ---------------------------------------------------------------- files


def _digest(handle: int) -> hashlib._Hash:
    """Return the SHA-256 of a file's content."""
    digest, at = hashlib.sha256(), 0
    while data := os.pread(handle, _BLOCK, at):
        digest.update(data)
        at += len(data)
    return digest


class _Progress:
    """When a partial file last grew, whichever process writes to it."""

    def __init__(self, partial: Path) -> None:
        self._partial, self._size = partial, 0
        self.last = time.monotonic()

    def seconds_without(self) -> float:
        """Return the time since the file was last seen to grow."""
        size = 0
        with contextlib.suppress(OSError):  # it does not exist, or was renamed
            size = self._partial.stat().st_size
        if size > self._size:
            self.last = time.monotonic()
        self._size = size
        return time.monotonic() - self.last


def _never_fetched(path: Path, locked: bool) -> Failure:
    if locked:
        return Failure("cache-locked", f"{path}: locked by a process that is stuck; end it")
    return Failure("cache-full", f"{path}: no space in the cache; end other runs or raise --cache-limit")


def _lock_own(partial: Path) -> int | None:
    """Lock a partial file, or None if another process holds it.

    One that another user left is removed first: they may still change what this process would continue.
    """
    while (handle := file_lock.try_lock(partial)) is not None and _is_foreign(os.fstat(handle)):
        with file_lock.held(handle), atomic_io.explain_disk_errors(partial):
            partial.unlink(missing_ok=True)
    return handle


_connections: dict[tuple[int, str, RetryPolicy], Connection] = {}


def _connection(location: Location) -> Connection:
    """Return this process's connection to a location: clients do not survive a fork."""
    policy = RetryPolicy.from_environment()
    key = (os.getpid(), location.url, policy)
    if key not in _connections:
        _connections[key] = Connection(location, policy)
    return _connections[key]
