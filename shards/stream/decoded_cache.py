"""Decide whether and where the decoded pixels of a dataset are kept, and remove old ones.

A file of `DecodedRows` is named by everything that decides the pixels before augmentation, so the pixels of another
dataset, of a repaired shard or of another decoder's version are never found.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import re
import stat
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import psutil
from PIL import features

from shards.core.cache_home import cache_home
from shards.core.errors import UserError, warn
from shards.core.filesystems import LOCAL_DISKS, existing, file_system
from shards.dataset.dataset import Dataset
from shards.dataset.sidecars import FORMATS
from shards.stream.decoded_rows import DecodedRows, file_size, lock

AUTO, OFF = "auto", "off"
LIMIT = 50 * 10**9  # bytes of all files that are kept without being requested

_PIXELS = 1  # to be raised whenever shards.dataset.decode or images return other pixels
_UNUSED = 30 * 86400  # seconds after which a file that was not used is removed
_FILE = re.compile(r".+-\d+px-[0-9a-f]{32}\.rows", re.DOTALL)
_DECODERS = ("simplejpeg", "pillow", "pi-heif")
_LIBRARIES = ("libjpeg_turbo", "webp", "avif", "littlecms2")  # within Pillow, which may be the system's


@dataclass(frozen=True)
class CachePlan:
    """Where the decoded pixels of a dataset are kept, if anywhere.

    Attributes:
        where: the option, see `plan_cache`.
        path: the file; None if nothing is kept.
        reason: why nothing is kept.
        count, width: samples, and bytes of each one's pixels.
        key: what decides the pixels, hashed.
        limit: the bytes that all files in the directory may have together.
        required: whether a requested directory that cannot be used is an error.
    """

    where: str
    path: Path | None = None
    reason: str = ""
    count: int = 0
    width: int = 0
    key: bytes = b""
    limit: int = 0
    required: bool = True

    @property
    def bytes(self) -> int:
        """The size of the file."""
        return file_size(self.count, self.width)

    def describe(self, rows: DecodedRows | None = None) -> str:
        """Return one line on where the pixels are kept, and how many of them ``rows`` has."""
        if self.path is None:
            return f"decoded images: not kept ({self.reason})"
        filled = "" if rows is None else f", {rows.filled / self.count:.0%} filled"
        return f"decoded images: kept in {self.path} ({_size(self.bytes)}{filled})"

    def open(self) -> tuple[DecodedRows | None, CachePlan]:
        """Open or create the file, after removing others that are old or take its space.

        Returns:
            The rows, or None if they cannot be kept; and the plan as it is then.

        Raises:
            UserError: a requested directory cannot be used, and is required.
        """
        if self.path is None:
            return None, self
        folder = self.path.parent
        try:
            _make_private(folder, also_parent=self.where == AUTO)
            others = _remove_old(folder, self)
            if others + self.bytes > self.limit:
                return None, _without(self.where, self.required, f"other runs use {_size(others)} of {folder}")
            return DecodedRows(self.path, self.count, self.width, self.key), self
        except OSError as error:
            return None, _without(
                self.where, self.required, f"{error.filename or self.path}: {error.strerror or error}"
            )


def plan_cache(dataset: Dataset, where: str, *, required: bool = True) -> CachePlan:
    """Decide where the decoded pixels of a dataset are kept; nothing is written.

    Args:
        where: "auto" keeps them in the user's cache directory on a local disk if they fit in `LIMIT`, a quarter of the
            free space and half of the memory; "off" keeps nothing; anything else is a directory, in which they may use
            nine tenths of the free space.
        required: whether a directory that cannot be used is an error; otherwise a warning, as for a run that is resumed
            with the directory that it had: it may have gone on without the pixels when the disk was full.

    Raises:
        UserError: the directory cannot be written to, or they do not fit in it.
    """
    if where == OFF:
        return CachePlan(where, reason="--decoded-cache off")
    if (dataset.entries["format"] == FORMATS.index("raw")).all():
        return CachePlan(where, reason="the dataset stores pixels")
    folder = _default_folder() if where == AUTO else _requested_folder(where)
    if folder is None:
        return CachePlan(where, reason="no cache directory on a local disk; --decoded-cache can name one")
    place = existing(folder)
    if where != AUTO and not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        return _without(where, required, f"{place} is not a directory that you may write to")
    limit, meaning = _limit(folder, requested=where != AUTO)
    count, width = len(dataset), dataset.shape.nbytes
    if (need := file_size(count, width)) > limit:
        return _without(where, required, f"{_size(need)} exceed {meaning}, {_size(limit)}")
    key = _key(dataset)
    name = re.sub(r"[^A-Za-z0-9]+", "-", dataset.path.name).strip("-")[:60] or "data"
    path = folder / f"{name}-{dataset.size}px-{key.hex()}.rows"
    return CachePlan(where, path, "", count, width, key, limit, required)


def _without(where: str, required: bool, reason: str) -> CachePlan:
    """Return the plan of keeping nothing, for a reason of which those who asked for a directory are told.

    Raises:
        UserError: they did, and it is required.
    """
    if where != AUTO:
        problem = f"--decoded-cache {where}: {reason}"
        if required:
            raise UserError("decoded-cache-unusable", f"{problem}; choose another directory, auto or off")
        warn("decoded-cache-unusable", f"{problem}; the run is resumed without decoded images")
    return CachePlan(where, reason=reason)


# ---------------------------------------------------------------- what decides the pixels


def _key(dataset: Dataset) -> bytes:
    """Return a hash of everything that decides the pixels of each sample, 16 bytes."""
    sidecars = dataset.manifest.get("sidecars")
    index = sidecars.get("index.npy") if isinstance(sidecars, dict) else None
    parts = {
        "dataset": dataset.fingerprint,
        "index": index or hashlib.sha256(dataset.entries.tobytes()).hexdigest(),
        "shape": [len(dataset), *dataset.shape.pixels_shape],
        "fit": [dataset.in_place, dataset.fit, dataset.background],
        # A damaged shard may decode to wrong pixels, which must not outlive its repair. The cache verifies remote ones.
        "shards": [] if dataset.remote else [path.stat().st_mtime_ns for path in dataset.shards],
        "decoders": [_PIXELS, platform.machine(), *map(_version, _DECODERS), *map(features.version, _LIBRARIES)],
    }
    return hashlib.sha256(json.dumps(parts).encode()).digest()[:16]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


# ---------------------------------------------------------------- where, and how much


def _default_folder() -> Path | None:
    """Return a directory of this user on a local disk: below the cache directory, or else that for temporary files."""
    temporary = Path(tempfile.gettempdir()) / f"cgan-trainer-{os.geteuid()}"
    for folder in (cache_home(), temporary):
        foreign = _is_foreign(folder) or _is_foreign(folder / "decoded")  # users may share a cache directory
        if file_system(folder) in LOCAL_DISKS and not foreign:
            return folder / "decoded"
    return None


def _requested_folder(where: str) -> Path:
    return Path(os.path.abspath(Path(where).expanduser()))  # noqa: PTH100


def _limit(folder: Path, requested: bool) -> tuple[int, str]:
    """Return the bytes that all files in a directory may have together, and what that is."""
    disk = os.statvfs(existing(folder))
    space = disk.f_bavail * disk.f_frsize + sum(found.st_blocks * 512 for _, found in _files(folder))
    if requested:
        return space * 9 // 10, f"nine tenths of the space in {folder}"
    return min(
        (LIMIT, "the limit"),
        (space // 4, f"a quarter of the space in {folder}"),
        (_memory() // 2, "half of the memory"),
    )


def _memory() -> int:
    """Return the memory of this machine in bytes, or of this process's control group if that has less."""
    limits = [psutil.virtual_memory().total]
    with contextlib.suppress(OSError, ValueError):
        group = Path("/proc/self/cgroup").read_text().split("::")[-1].strip().lstrip("/")
        for folder in (Path("/sys/fs/cgroup", group), *Path("/sys/fs/cgroup", group).parents):
            with contextlib.suppress(OSError, ValueError):  # no limit: no such file, or "max"
                limits.append(int((folder / "memory.max").read_text()))
    return min(limits)


def _size(count: int) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 10**9 else f"{count / 1e6:,.1f} MB"


# ---------------------------------------------------------------- the directory


def _make_private(folder: Path, also_parent: bool) -> None:
    """Create a directory for this user alone.

    Args:
        also_parent: its parent, which may be in the directory for temporary files, must not be another user's either.

    Raises:
        OSError: it cannot be created, or another user may replace what is in it.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.mkdir(exist_ok=True, mode=0o700)
    for place in (folder, folder.parent) if also_parent else (folder,):
        if _is_foreign(place):
            raise PermissionError(1, "it belongs to another user", str(place))


def _is_foreign(place: Path) -> bool:
    """Return whether another user may replace what is in a directory, which need not exist."""
    try:
        found = place.lstat()
    except OSError:
        return False
    return found.st_uid not in (os.geteuid(), 0) and not found.st_mode & stat.S_ISVTX


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the files that this module has created in a directory; all others are ignored, whatever it is."""
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if _FILE.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):
                    found = path.lstat()
                    if stat.S_ISREG(found.st_mode):
                        yield path, found


def _remove_old(folder: Path, plan: CachePlan) -> int:
    """Remove files that have not been used for a month, and the least recently used ones that leave too little space.

    Returns:
        The bytes of the remaining files, without that of the plan.
    """
    others = sorted(((p, s) for p, s in _files(folder) if p != plan.path), key=lambda item: item[1].st_mtime)
    total = sum(found.st_size for _, found in others)
    for path, found in others:
        needed = total + plan.bytes > plan.limit
        if (needed or time.time() - found.st_mtime > _UNUSED) and _remove(path):
            total -= found.st_size
    return total


def _remove(path: Path) -> bool:
    """Remove a file that no process has open; return whether that succeeded."""
    try:
        file = lock(path, 0, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return False
    finally:
        os.close(file)
    return True
