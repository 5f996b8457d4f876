"""A packed dataset, opened for reading: images by index, with the matrices of labels and masks.

A dataset is a directory of plain tars plus sidecar files (see docs/data.md). Reading image i is one ``pread`` of a file
that stays open; nothing is scanned or unpacked, so random access costs the same as sequential access. Of a remote
dataset, manifest and sidecars are fetched when it is opened, and whole shards when they are read.
"""

from __future__ import annotations

import hashlib
import operator
import os
import stat
import weakref
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shards.core.errors import Failure, UserError
from shards.dataset.content_check import check_manifest, check_sidecars
from shards.dataset.image_shape import manifest_shape
from shards.dataset.label_rows import LabelArray
from shards.dataset.manifest import MANIFEST, read_manifest, require_manifest
from shards.dataset.npy_mmap import open_memmap
from shards.dataset.schema import Schema
from shards.dataset.shard_reader import ShardReader
from shards.dataset.sidecars import FORMATS, fetch_sidecars, sidecar_shapes
from shards.remote.cache import LIMIT, CachedDataset, FileRecord, default_cache
from shards.remote.eviction import CacheLease
from shards.remote.location import Location, parse_location
from shards.remote.prefetch import Prefetcher

if TYPE_CHECKING:
    from shards.dataset.sample import Sample

_CHUNK = 1 << 16  # entries checked at a time, so that they fit in the processor's cache


class Dataset:
    """A packed dataset, opened for reading. Picklable: it is reopened where it is unpickled. Safe after a fork.

    Attributes:
        path: the directory of its manifest and sidecars; for a remote dataset, its directory in the cache.
        where: its directory or URL, for messages.
        remote: True if shards are fetched into a cache.
        manifest: the content of manifest.json.
        schema: its label schema (L entries, A attributes).
        shape: channels, height and width of every image.
        size: the longer side of every image, in pixels.
        entries: `ENTRY` records (N,), memory-mapped.
        labels: float32 (N, L) as it is read; memory-mapped, and stored as bytes if all entries are zeros and ones.
        known: bool (N, A), memory-mapped.
        shards: paths of the S shards, which may not have been fetched yet.
        shard_bytes: int64 (S,), the sizes of the shards.
        in_place: True if foreign tars were indexed in place: images may have any size and format ("other").
        fit, background: how such an image is brought to the aspect, and the colour behind a transparent one.
        fingerprint: identifies images, labels and schema, independent of the location.
    """

    def __init__(
        self, path: Path, cached: CachedDataset | None = None, lease: CacheLease | None = None, *, checked: bool = False
    ) -> None:
        self.path, self._cached = Path(path), cached
        self._lease = lease or (CacheLease(path) if cached else None)  # taken before the files are looked up
        self.remote = cached is not None
        self.where = str(cached.location) if cached else str(path)
        self.manifest = read_manifest(self.path, self.where)
        self.schema = Schema.from_json(self.manifest.get("schema"), f"{self.where}/{MANIFEST}")
        self.shape = manifest_shape(self.manifest, f"{self.where}/{MANIFEST}")
        self.size: int = self.shape.size
        self.in_place: bool = self.manifest.get("in_place") is True
        self.fit, self.background = (
            str(self.manifest.get(k, d)) for k, d in (("fit", "crop"), ("background", "white"))
        )
        self.shards: list[Path] = [self.path / shard["file"] for shard in self.manifest["shards"]]
        self.shard_bytes = np.array([shard["bytes"] for shard in self.manifest["shards"]], np.int64)
        if cached is None and not checked:
            _check_sizes(self.path, self.manifest["shards"])
        sidecars = sidecar_shapes(self.manifest, self.schema)
        self.entries, labels, self.known = (open_memmap(self.path / n, *s) for n, s in sidecars.items())
        self.labels = LabelArray(labels)
        self._entries = np.asarray(self.entries)  # indexing a memmap is slow
        if not checked:
            self._check_bounds()
            check_manifest(self.manifest, self.where)
        if cached is None and not checked:  # the cache has verified what it fetched
            check_sidecars(self.path, self.manifest, list(sidecars))
        self.fingerprint = _fingerprint(self.manifest, self.schema)
        self._files = ShardReader(self._open_shard, self._shard_name, cached=self.remote)
        self._prefetcher: Prefetcher | None = None

    @classmethod
    def open(cls, where: Path | str, *, cache: Path | None = None, limit_bytes: int = LIMIT) -> Dataset:
        """Open the dataset in a directory or at a URL (https://, s3://, gs://, or any other protocol of fsspec).

        Args:
            where: a directory, or a URL.
            cache: local directory into which shards are fetched as they are needed. URLs always have one (default:
                ~/.cache/cgan-trainer/shards); a directory has one only if it is given.
            limit_bytes: maximum size of the cache; the least recently used files are evicted.

        Raises:
            UserError: there is no dataset, a newer version wrote it, a part is missing or inconsistent, or one shard
                is larger than the cache.
            Failure: the server does not answer.
        """
        location = parse_location(where)
        if isinstance(location, Path):
            if cache is None:
                return cls(location)
            require_manifest(location / MANIFEST, str(location))
            location = Location.of_folder(location)
        cached, lease = CachedDataset.create(location, cache or default_cache(), limit_bytes, MANIFEST)
        fetch_sidecars(cached)
        return cls(cached.folder, cached, lease)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Sample:
        """Read and decode one sample; negative indices count from the end.

        Raises:
            IndexError: there is no such sample.
            Failure: the image is damaged, or its shard cannot be read or fetched.
        """
        from shards.dataset.sample import load_sample  # here: readers of raw bytes need no decoders

        number = operator.index(index)
        if not -len(self) <= number < len(self):
            raise IndexError(f"{self.where} has {len(self):,} samples, and no sample {number:,}")
        return load_sample(self, number % len(self))

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self._cached)

    def read(self, i: int) -> bytes:
        """Return the encoded image of sample i, in [0, N).

        Raises:
            Failure: the shard can no longer be read or fetched.
        """
        shard, _, offset, length = self._entries[i].item()
        return self._files.read(shard, offset, length)

    def read_into(self, i: int, buffer: memoryview) -> None:
        """Read the encoded image of sample i into ``buffer``, which must have its length in bytes.

        Raises:
            ValueError: the buffer has another length.
            Failure: like `read`.
        """
        shard, _, offset, length = self._entries[i].item()
        if buffer.nbytes != length:
            raise ValueError(f"the image of sample {i} has {length} bytes, and the buffer {buffer.nbytes}")
        self._files.read_into(shard, offset, buffer)

    def format(self, i: int) -> str:
        """Return the encoding of sample i's image, one of `FORMATS`."""
        return FORMATS[self._entries[i]["format"]]

    def shard_of(self, i: int) -> int:
        """Return the number of the shard that contains sample i, in [0, S)."""
        return int(self._entries[i]["shard"])

    @cached_property
    def shard_bounds(self) -> np.ndarray:
        """int64 (S + 1,): shard s contains the samples bounds[s] to bounds[s + 1].

        Raises:
            UserError: the index is not in the order of the shards.
        """
        counts = [shard["samples"] for shard in self.manifest["shards"]]
        bounds = np.concatenate([[0], np.cumsum(counts, dtype=np.int64)])
        for start in range(0, len(self), _CHUNK):
            shard = self._entries["shard"][start : start + _CHUNK]
            expected = np.searchsorted(bounds, np.arange(start, start + len(shard)), side="right") - 1
            if not np.array_equal(shard, expected):
                raise UserError(
                    "index-not-in-shard-order",
                    f"{self.where}: the index is not in the order of the shards; use --order full",
                )
        return bounds

    @property
    def sidecar_bytes(self) -> int:
        """Size of index, labels and masks in bytes."""
        return sum((self.path / name).stat().st_size for name in sidecar_shapes(self.manifest, self.schema))

    def prefetch(self, shards: Sequence[int]) -> None:
        """Fetch the shards that will be read next, in this order, in a thread; does nothing for a local dataset.

        This replaces the previous request. Errors surface when the shard is read.
        """
        if self._cached is None:
            return
        if self._prefetcher is None or self._prefetcher.process != os.getpid():
            self._prefetcher = Prefetcher(self._cached)
            weakref.finalize(self, self._prefetcher.close)
        self._prefetcher.request([self._file(shard) for shard in shards])

    def _file(self, shard: int) -> FileRecord:
        record = self.manifest["shards"][shard]
        return FileRecord(record["file"], record["bytes"], record["sha256"])

    def _open_shard(self, shard: int) -> int:
        if self._cached is not None:
            return self._cached.open(self._file(shard))
        try:
            return os.open(self.shards[shard], os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise Failure("shard-unreadable", f"{self.shards[shard]}: cannot be opened ({error.strerror})") from None

    def _shard_name(self, shard: int) -> str:
        return f"{self.where}/{self.manifest['shards'][shard]['file']}"

    def _check_bounds(self) -> None:
        """Check every entry of the index against the sizes of the shards."""
        for start in range(0, len(self.entries), _CHUNK):
            part = self._entries[start : start + _CHUNK]
            shard, offset = part["shard"], part["offset"]
            bad = (shard < 0) | (shard >= len(self.shards)) | (part["format"] >= len(FORMATS)) | (offset < 0)
            bad |= offset > self.shard_bytes[np.clip(shard, 0, len(self.shards) - 1)] - part["length"]
            if bad.any():
                row = start + int(np.argmax(bad))
                raise UserError(
                    "index-damaged",
                    f"{self.where}/index.npy: entry {row} points outside its shard; pack the dataset again",
                )


def _reopen(path: Path, cached: CachedDataset | None) -> Dataset:
    return Dataset(path, cached, checked=True)  # it was checked when it was first opened


def _check_sizes(folder: Path, shards: list[dict[str, Any]]) -> None:
    """Check the shards of a local dataset against the manifest."""
    for shard in shards:
        path = folder / shard["file"]
        try:
            found = path.stat()
        except OSError as error:
            raise UserError(
                "shard-missing", f"{path}: the shard is missing ({error.strerror}); copy it back or pack again"
            ) from None
        if found.st_size != shard["bytes"] or not stat.S_ISREG(found.st_mode):
            raise UserError(
                "shard-changed",
                f"{path}: {found.st_size:,} bytes instead of {shard['bytes']:,} as in the manifest; "
                "copy it again or pack again",
            )


def _fingerprint(manifest: dict[str, Any], schema: Schema) -> str:
    """Return a hash of the content of the dataset, from the hashes in its manifest."""
    sidecars = manifest.get("sidecars")
    sidecars = sidecars if isinstance(sidecars, dict) else {}
    parts = [shard["sha256"] for shard in manifest["shards"]]
    parts += [f"{name}={sidecars.get(name)}" for name in ("labels.npy", "known.npy")]
    parts += [schema.text, str(manifest["picture_size"])]
    parts += [f"{key}={manifest[key]}" for key in ("channels", "aspect") if key in manifest]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
