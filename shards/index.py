"""Where each picture of a data set lies: shard, offset and length, beside the matrices of labels and masks.

A data set is a folder of plain tars plus sidecars (see docs/data.md). Reading picture i is one ``pread``
of a file that stays open; nothing is scanned or unpacked, so any order of reading costs the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tarfile
import threading
from pathlib import Path
from typing import Any

import numpy as np

from shards.errors import Failure, UserError
from shards.files import explained
from shards.schema import Schema

FORMAT_VERSION = 1
MANIFEST = "manifest.json"
FORMATS = ("jpg", "png", "webp")  # a picture's entry in the index holds the position in this list: append only
EXTENSIONS = {"jpg": 0, "jpeg": 0, "png": 1, "webp": 2}
ENTRY = np.dtype([("shard", "<i4"), ("format", "u1"), ("offset", "<i8"), ("length", "<u4")])

_OPEN_FILES = 64  # per thread; a pread needs no shared position, so forked workers may inherit them
_SHARD_NAME = re.compile(r"[^/\\\0]+\.tar")


class Dataset:
    """A packed data set, opened for reading. Picklable: it reopens itself where it arrives. Safe after a fork.

    Attributes:
        path: its folder.
        manifest: the content of manifest.json.
        schema: its label schema (L words, A attributes).
        size: height and width of every picture, in pixels.
        entries: `ENTRY` records (N,), memory-mapped.
        labels: float32 (N, L), memory-mapped; zeros and ones.
        known: bool (N, A), memory-mapped.
        fingerprint: identifies pictures, labels and schema, whatever the folder is called.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.manifest = _manifest(self.path)
        self.schema = Schema.from_json(self.manifest["schema"], str(self.path / MANIFEST))
        self.size: int = self.manifest["picture_size"]
        self.shards: list[Path] = [self.path / shard["file"] for shard in self.manifest["shards"]]
        count = self.manifest["samples"]
        self.entries = _array(self.path / "index.npy", ENTRY, (count,))
        self.labels = _array(self.path / "labels.npy", np.dtype(np.float32), (count, self.schema.width))
        self.known = _array(self.path / "known.npy", np.dtype(bool), (count, len(self.schema.attributes)))
        self._check_bounds()
        self.fingerprint = _fingerprint(self.manifest, self.schema)
        self._files = _Files(self.shards)

    @classmethod
    def open(cls, path: Path | str) -> Dataset:
        """Open the data set in a folder.

        Raises:
            UserError: it is none, a newer version wrote it, or a part is missing or does not fit.
        """
        return cls(Path(path))

    def __len__(self) -> int:
        return len(self.entries)

    def __reduce__(self) -> tuple[Any, ...]:
        return Dataset, (self.path,)

    def read(self, i: int) -> bytes:
        """The encoded picture of sample i, in [0, N).

        Raises:
            Failure: the shard can no longer be read there.
        """
        entry = self.entries[i]
        return self._files.read(int(entry["shard"]), int(entry["offset"]), int(entry["length"]))

    def format(self, i: int) -> str:
        """The encoding of sample i's picture: one of `FORMATS`."""
        return FORMATS[self.entries[i]["format"]]

    def _check_bounds(self) -> None:
        """Hold every entry against the sizes of the shards, a million at a time."""
        sizes = np.array([shard["bytes"] for shard in self.manifest["shards"]], np.int64)
        for start in range(0, len(self.entries), 1 << 20):
            part = self.entries[start : start + (1 << 20)]
            shard, offset = part["shard"], part["offset"]
            bad = (shard < 0) | (shard >= len(sizes)) | (part["format"] >= len(FORMATS)) | (offset < 0)
            bad |= offset > sizes[np.clip(shard, 0, len(sizes) - 1)] - part["length"]
            if bad.any():
                row = start + int(np.argmax(bad))
                raise UserError(
                    f"{self.path / 'index.npy'}: entry {row} points outside its shard; pack the data set again"
                )


class _Files(threading.local):
    """Shards held open for reading, a few at a time, each thread its own."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths
        self.handles: dict[int, _Handle] = {}

    def read(self, shard: int, offset: int, length: int) -> bytes:
        path = self.paths[shard]
        try:
            if shard not in self.handles:
                if len(self.handles) >= _OPEN_FILES:
                    del self.handles[next(iter(self.handles))]
                self.handles[shard] = _Handle(path)
            data = os.pread(self.handles[shard].number, length, offset)
        except OSError as error:
            raise Failure(f"{path}: cannot be read at byte {offset:,} ({error.strerror})") from None
        if len(data) != length:
            raise Failure(f"{path}: ends before byte {offset + length:,}; the file was changed after packing")
        return data


class _Handle:
    """An open file descriptor that closes with its last reference."""

    def __init__(self, path: Path) -> None:
        self.number = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def __del__(self) -> None:
        if hasattr(self, "number"):
            os.close(self.number)


# ---------------------------------------------------------------- building


def scan(tar: Path, shard: int = 0) -> tuple[list[str], np.ndarray]:
    """Find the pictures in a tar, whoever wrote it.

    Args:
        tar: an uncompressed tar; only its headers are read.
        shard: the number to put into the entries.

    Returns:
        (sample keys, `ENTRY` records), one each per picture, in the tar's order.

    Raises:
        UserError: no tar, or a damaged one.
    """
    keys: list[str] = []
    entries: list[tuple[int, int, int, int]] = []
    try:
        with tarfile.open(tar, "r:") as archive:
            for member in archive:
                folder, slash, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")  # WebDataset's rule: the first dot ends the key
                kind = EXTENSIONS.get(extension.lower())
                if kind is not None and member.isreg() and not member.issparse():
                    keys.append(folder + slash + stem)
                    entries.append((shard, kind, member.offset_data, member.size))
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - or it keeps every header
        array = np.array(entries, ENTRY)
    except (tarfile.TarError, OSError, ValueError, OverflowError) as error:
        raise UserError(f"{tar}: not a readable tar ({error})") from None
    return keys, array


def build(directory: Path, shards: list[str]) -> tuple[list[str], np.ndarray]:
    """Keys and entries of all pictures in the named tars of a folder, in order; see `scan`."""
    found = [scan(directory / name, number) for number, name in enumerate(shards)]
    return [key for keys, _ in found for key in keys], np.concatenate([entries for _, entries in found])


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy and bring it to the disk; for folders that do not bear their final name yet."""
    with explained(path), path.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


# ---------------------------------------------------------------- opening


def _manifest(path: Path) -> dict[str, Any]:
    """The manifest of a data set, with every field that reading relies on checked."""
    where = path / MANIFEST
    if not where.is_file():
        what = "no such folder" if not path.exists() else f"there is no {MANIFEST} in it"
        raise UserError(
            f"{path} is not a packed data set ({what}); make one with: python -m shards pack PICTURES {path}"
        )
    try:
        manifest = json.loads(where.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{where}: cannot be read ({error}); pack the data set again") from None
    version = manifest.get("format_version") if isinstance(manifest, dict) else None
    if version is None or not _whole(version, 1):
        raise UserError(f"{where}: not a data set's manifest (it has no format_version)")
    if version > FORMAT_VERSION:
        raise UserError(f"{where}: format version {version}, and this program knows up to {FORMAT_VERSION}; update it")
    for key in ("picture_size", "samples"):
        if not _whole(manifest.get(key), 1):
            raise UserError(f"{where}: {key} must be a whole number above 0, not {manifest.get(key)!r}")
    shards = manifest.get("shards")
    if not isinstance(shards, list) or not shards:
        raise UserError(f"{where}: it lists no shards")
    for shard in shards:
        _check_shard(path, shard, where)
    if (total := sum(shard["samples"] for shard in shards)) != manifest["samples"]:
        raise UserError(f"{where}: the shards hold {total} samples and the manifest says {manifest['samples']}")
    return manifest


def _check_shard(path: Path, shard: Any, where: Path) -> None:
    name = shard.get("file") if isinstance(shard, dict) else None
    if not isinstance(name, str) or not _SHARD_NAME.fullmatch(name):
        raise UserError(f"{where}: {name!r} is not a shard's name; it must be a .tar in the data set's own folder")
    if not (_whole(shard.get("samples"), 0) and _whole(shard.get("bytes"), 0) and isinstance(shard.get("sha256"), str)):
        raise UserError(f"{where}: shard {name} needs samples, bytes and sha256")
    try:
        size = (path / name).stat().st_size
    except OSError as error:
        raise UserError(f"{path / name}: the shard is missing ({error.strerror}); copy it back or pack again") from None
    if size != shard["bytes"]:
        raise UserError(
            f"{path / name}: {size:,} bytes, and the manifest says {shard['bytes']:,}; copy it again or pack again"
        )


def _whole(value: Any, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _array(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Memory-map a sidecar and hold it against what the manifest promises."""
    try:
        array = np.lib.format.open_memmap(path, mode="r")  # plain .npy only: no zip, no pickle
    except FileNotFoundError:
        raise UserError(f"{path}: missing; copy it back or pack the data set again") from None
    except Exception as error:  # numpy's reading of a damaged header fails in many ways
        raise UserError(f"{path}: not a readable array ({error}); pack the data set again") from None
    if array.dtype != dtype or array.shape != shape:
        raise UserError(
            f"{path}: holds {array.dtype} {array.shape} where the manifest needs {dtype} {shape}; pack it again"
        )
    return array


def _fingerprint(manifest: dict[str, Any], schema: Schema) -> str:
    """A hash over what the data set holds, from the hashes that the manifest keeps."""
    sidecars = manifest.get("sidecars")
    sidecars = sidecars if isinstance(sidecars, dict) else {}
    parts = [shard["sha256"] for shard in manifest["shards"]]
    parts += [f"{name}={sidecars.get(name)}" for name in ("labels.npy", "known.npy")]
    parts += [schema.text, str(manifest["picture_size"])]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
