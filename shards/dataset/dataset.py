"""Where each picture of a data set lies: shard, offset and length, beside the matrices of labels and masks.

A data set is a folder of plain tars plus sidecars (see docs/data.md). Reading picture i is one ``pread``
of a file that stays open; nothing is scanned or unpacked, so any order of reading costs the same. Of one that
lies elsewhere, manifest and sidecars are fetched when it is opened, and whole shards when they are read.
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
from shards.dataset.manifest import MANIFEST, read_manifest, require_manifest
from shards.dataset.npy_mmap import mapped
from shards.dataset.schema import Schema
from shards.dataset.shard_reader import ShardReader
from shards.dataset.sidecars import FORMATS, fetch_sidecars, sidecar_shapes
from shards.remote.cache import LIMIT, File, Hold, Room, default_cache
from shards.remote.location import Location, locate
from shards.remote.prefetch import Prefetcher

if TYPE_CHECKING:
    from shards.dataset.sample import Sample

_STEP = 1 << 16  # entries looked at together, so that they stay in the processor's cache


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
        sidecars = sidecar_shapes(self.manifest, self.schema)
        self.entries, self.labels, self.known = (mapped(self.path / n, *s) for n, s in sidecars.items())
        self._entries = np.asarray(self.entries)  # a memmap's own indexing is slow
        if not checked:
            self._check_bounds()
        self.fingerprint = _fingerprint(self.manifest, self.schema)
        self._files = ShardReader(self._open_shard, self._shard_name, cached=self.remote)
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
        fetch_sidecars(room)
        return cls(room.folder, room, hold)

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
        return sum((self.path / name).stat().st_size for name in sidecar_shapes(self.manifest, self.schema))

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


def _fingerprint(manifest: dict[str, Any], schema: Schema) -> str:
    """A hash over what the data set holds, from the hashes that the manifest keeps."""
    sidecars = manifest.get("sidecars")
    sidecars = sidecars if isinstance(sidecars, dict) else {}
    parts = [shard["sha256"] for shard in manifest["shards"]]
    parts += [f"{name}={sidecars.get(name)}" for name in ("labels.npy", "known.npy")]
    parts += [schema.text, str(manifest["picture_size"])]
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
