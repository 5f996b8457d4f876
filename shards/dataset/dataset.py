"""Where each picture of a data set lies: shard, offset and length, beside the matrices of labels and masks.

A data set is a folder of plain tars plus sidecars (see docs/data.md). Reading picture i is one ``pread``
of a file that stays open; nothing is scanned or unpacked, so any order of reading costs the same. Of one that
lies elsewhere, manifest and sidecars are fetched when it is opened, and whole shards when they are read.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
import resource
import stat
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.core.atomic_io import explained
from shards.core.errors import Failure, UserError
from shards.dataset.manifest import MANIFEST, read_manifest, require_manifest
from shards.dataset.npy_mmap import mapped
from shards.dataset.schema import Schema
from shards.remote.cache import LIMIT, File, Hold, Room, default_cache, mark_used
from shards.remote.location import Location, locate
from shards.remote.prefetch import Prefetcher

# A picture's entry in the index holds the position in this list: append only. "raw" is the pixels themselves, uint8
# (S, S, 3); "other" is what Pillow makes of it (only in tars that others wrote and that were indexed in place).
FORMATS = ("jpg", "png", "webp", "raw", "other")
ENTRY = np.dtype([("shard", "<i4"), ("format", "u1"), ("offset", "<i8"), ("length", "<u4")])

# Shards held open by a thread, as far as the system lets us; a pread needs no shared position, so forked workers may
# inherit them.
_ALLOWED = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
_OPEN_FILES = 512 if _ALLOWED == resource.RLIM_INFINITY else max(16, min(512, _ALLOWED // 4))
_SWEEP = 1.0  # seconds between two looks for shards that are open and were evicted
_STEP = 1 << 16  # entries looked at together, so that they stay in the processor's cache
_TOUCH = 10.0  # seconds after which a cached shard that is being read is marked as used again


class Dataset:
    """A packed data set, opened for reading. Picklable: it reopens itself where it arrives. Safe after a fork.

    Attributes:
        path: the folder with its manifest and sidecars; of a remote one, its folder in the cache.
        where: its folder or URL as messages may show it.
        remote: whether shards are fetched into a cache.
        manifest: the content of manifest.json.
        schema: its label schema (L words, A attributes).
        size: height and width of every picture, in pixels.
        entries: `ENTRY` records (N,), memory-mapped.
        labels: float32 (N, L), memory-mapped.
        known: bool (N, A), memory-mapped.
        shards: where the S shards lie, or will lie when they are fetched.
        shard_bytes: int64 (S,), their sizes.
        in_place: whether the tars are others' own: pictures may have any size and format ("other").
        fit, background: how such a picture becomes square, and what lies behind a transparent one.
        fingerprint: identifies pictures, labels and schema, wherever the data set lies.
    """

    def __init__(
        self, path: Path, room: Room | None = None, hold: Hold | None = None, *, checked: bool = False
    ) -> None:
        self.path, self._room = Path(path), room
        self._hold = hold or (Hold(path) if room else None)  # taken before the files are looked for
        self.remote = room is not None
        self.where = str(room.location) if room else str(path)
        self.manifest = read_manifest(self.path, self.where)
        self.schema = Schema.from_json(self.manifest.get("schema"), f"{self.where}/{MANIFEST}")
        self.size: int = self.manifest["picture_size"]
        self.in_place: bool = self.manifest.get("in_place") is True
        self.fit, self.background = (
            str(self.manifest.get(k, d)) for k, d in (("fit", "crop"), ("background", "white"))
        )
        self.shards: list[Path] = [self.path / shard["file"] for shard in self.manifest["shards"]]
        self.shard_bytes = np.array([shard["bytes"] for shard in self.manifest["shards"]], np.int64)
        if room is None and not checked:
            _check_sizes(self.path, self.manifest["shards"])
        sidecars = _sidecars(self.manifest, self.schema)
        self.entries, self.labels, self.known = (mapped(self.path / n, *s) for n, s in sidecars.items())
        self._entries = np.asarray(self.entries)  # a memmap's own indexing is slow
        if not checked:
            self._check_bounds()
        self.fingerprint = _fingerprint(self.manifest, self.schema)
        self._files = _Files(self._open_shard, self._shard_name, cached=self.remote)
        self._prefetcher: Prefetcher | None = None

    @classmethod
    def open(cls, where: Path | str, *, cache: Path | None = None, cache_limit: int = LIMIT) -> Dataset:
        """Open the data set in a folder, or at a URL (https://, s3://, gs://, whatever fsspec reads).

        Args:
            where: a folder, or a URL.
            cache: local folder into which shards are fetched, one by one as they are needed. Always used for a URL
                (left out: ~/.cache/cgan-trainer/shards); for a folder only when given.
            cache_limit: bytes that the cache may hold; what was unused longest makes room.

        Raises:
            UserError: there is none, a newer version wrote it, a part is missing or does not fit, or one shard is
                larger than the cache.
            Failure: the server does not answer.
        """
        place = locate(where)
        if isinstance(place, Path):
            if cache is None:
                return cls(place)
            require_manifest(place / MANIFEST, str(place))
            place = Location.of_folder(place)
        room, hold = Room.enter(place, cache or default_cache(), cache_limit, MANIFEST)
        _fetch_sidecars(room)
        return cls(room.folder, room, hold)

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopened, (self.path, self._room)

    def read(self, i: int) -> bytes:
        """The encoded picture of sample i, in [0, N).

        Raises:
            Failure: the shard can no longer be read there, or fetched.
        """
        shard, _, offset, length = self._entries[i].item()
        return self._files.read(shard, offset, length)

    def read_into(self, i: int, buffer: memoryview) -> None:
        """Fill ``buffer``, which has the length of sample i's picture in bytes, with that picture.

        Raises:
            ValueError: the buffer has another length.
            Failure: as for `read`.
        """
        shard, _, offset, length = self._entries[i].item()
        if buffer.nbytes != length:
            raise ValueError(f"the picture of sample {i} has {length} bytes, and the buffer {buffer.nbytes}")
        self._files.read_into(shard, offset, buffer)

    def format(self, i: int) -> str:
        """The encoding of sample i's picture: one of `FORMATS`."""
        return FORMATS[self._entries[i]["format"]]

    def shard_of(self, i: int) -> int:
        """The number of the shard that holds sample i, in [0, S)."""
        return int(self._entries[i]["shard"])

    @cached_property
    def shard_bounds(self) -> np.ndarray:
        """int64 (S + 1,): shard s holds the samples from bounds[s] up to bounds[s + 1].

        Raises:
            UserError: the index does not go through the shards in order.
        """
        counts = [shard["samples"] for shard in self.manifest["shards"]]
        bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        for start in range(0, len(self), _STEP):
            shard = self._entries["shard"][start : start + _STEP]
            expected = np.searchsorted(bounds, np.arange(start, start + len(shard)), side="right") - 1
            if not np.array_equal(shard, expected):
                raise UserError(f"{self.where}: its index is not in the order of its shards; use --order full")
        return bounds

    @property
    def sidecar_bytes(self) -> int:
        """Bytes of index, labels and masks."""
        return sum((self.path / name).stat().st_size for name in _sidecars(self.manifest, self.schema))

    def prefetch(self, shards: Sequence[int]) -> None:
        """Say which shards will be read next, in this order: a thread fetches them. Nothing for a local data set.

        What was said before and is not here yet is forgotten; what goes wrong shows when the shard is read.
        """
        if self._room is None:
            return
        if self._prefetcher is None or self._prefetcher.process != os.getpid():
            self._prefetcher = Prefetcher(self._room)
            weakref.finalize(self, self._prefetcher.close)
        self._prefetcher.ask([self._file(shard) for shard in shards])

    def _file(self, shard: int) -> File:
        record = self.manifest["shards"][shard]
        return File(record["file"], record["bytes"], record["sha256"])

    def _open_shard(self, shard: int) -> int:
        if self._room is not None:
            return self._room.open(self._file(shard))
        try:
            return os.open(self.shards[shard], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure(f"{self.shards[shard]}: cannot be opened ({error.strerror})") from None

    def _shard_name(self, shard: int) -> str:
        return f"{self.where}/{self.manifest['shards'][shard]['file']}"

    def _check_bounds(self) -> None:
        """Hold every entry against the sizes of the shards."""
        for start in range(0, len(self.entries), _STEP):
            part = self._entries[start : start + _STEP]
            shard, offset = part["shard"], part["offset"]
            bad = (shard < 0) | (shard >= len(self.shards)) | (part["format"] >= len(FORMATS)) | (offset < 0)
            bad |= offset > self.shard_bytes[np.clip(shard, 0, len(self.shards) - 1)] - part["length"]
            if bad.any():
                row = start + int(np.argmax(bad))
                raise UserError(
                    f"{self.where}/index.npy: entry {row} points outside its shard; pack the data set again"
                )


def _reopened(path: Path, room: Room | None) -> Dataset:
    return Dataset(path, room, checked=True)  # it was checked where it comes from


class _Files(threading.local):
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


# ---------------------------------------------------------------- building


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy and bring it to the disk; for folders that do not bear their final name yet."""
    with explained(path), path.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def save_rows(path: Path, dtype: Any, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """As `save_array`, for an array that need not be in memory as a whole: its rows come in parts, in order."""
    with explained(path), path.open("wb") as file:
        _write_header(file, np.dtype(dtype), shape)
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
        file.flush()
        os.fsync(file.fileno())


# ---------------------------------------------------------------- opening


def _check_sizes(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Hold the shards of a local data set against the manifest."""
    for shard in shards:
        path = folder / shard["file"]
        try:
            found = path.stat()
        except OSError as error:
            raise UserError(f"{path}: the shard is missing ({error.strerror}); copy it back or pack again") from None
        if found.st_size != shard["bytes"] or not stat.S_ISREG(found.st_mode):
            raise UserError(
                f"{path}: {found.st_size:,} bytes, and the manifest says {shard['bytes']:,}; "
                "copy it again or pack again"
            )


def _sidecars(manifest: dict[str, Any], schema: Schema) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """What the sidecars hold by the manifest's account: entries, labels, known."""
    count = manifest["samples"]
    return {
        "index.npy": (ENTRY, (count,)),
        "labels.npy": (np.dtype(np.float32), (count, schema.width)),
        "known.npy": (np.dtype(bool), (count, len(schema.attributes))),
    }


def _fetch_sidecars(room: Room) -> None:
    """Bring the sidecars into the cache, of which the manifest must be there.

    Raises:
        UserError: a size is not what the manifest's counts imply, or the cache is too small for one shard.
    """
    where = f"{room.location}/{MANIFEST}"
    manifest = read_manifest(room.folder, str(room.location))
    hashes = manifest.get("sidecars")
    files = []
    for name, (dtype, shape) in _sidecars(manifest, Schema.from_json(manifest.get("schema"), where)).items():
        sha256 = hashes.get(name) if isinstance(hashes, dict) else None
        if not isinstance(sha256, str):
            raise UserError(f"{where}: it has no sha256 of {name}, without which nothing is fetched; pack again")
        content = math.prod(shape) * dtype.itemsize
        size = room.size(name)
        if size is None:  # a server that does not tell: the size that we write
            size = _header_bytes(dtype, shape) + content
        if not content < size <= content + 4096:
            raise UserError(
                f"{room.location}/{name}: {size:,} bytes, which do not fit the manifest's counts; copy it there again"
            )
        files.append(File(name, size, sha256))
    need = sum(file.bytes for file in files) + max(shard["bytes"] for shard in manifest["shards"])
    if need > room.limit:
        raise UserError(
            f"{room.location}: labels, index and one shard take {need:,} bytes, and the cache may hold "
            f"{room.limit:,}; give it a larger --cache-limit"
        )
    for file in files:
        os.close(room.open(file))


def _header_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Bytes before the content of an array in a .npy file."""
    header = io.BytesIO()
    _write_header(header, dtype, shape)
    return len(header.getvalue())


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)


def _fingerprint(manifest: dict[str, Any], schema: Schema) -> str:
    """A hash over what the data set holds, from the hashes that the manifest keeps."""
    sidecars = manifest.get("sidecars")
    sidecars = sidecars if isinstance(sidecars, dict) else {}
    parts = [shard["sha256"] for shard in manifest["shards"]]
    parts += [f"{name}={sidecars.get(name)}" for name in ("labels.npy", "known.npy")]
    parts += [schema.text, str(manifest["picture_size"])]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
