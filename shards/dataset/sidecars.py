"""The arrays beside the shards: index, labels and masks."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from shards.core.atomic_io import explain_disk_errors
from shards.core.errors import UserError
from shards.dataset.manifest import MANIFEST, read_manifest
from shards.dataset.schema import Schema
from shards.remote.cache import File, Room

# A picture's entry in the index holds the position in this list: append only. "raw" is the pixels themselves, uint8
# (S, S, 3); "other" is what Pillow makes of it (only in tars that others wrote and that were indexed in place).
FORMATS = ("jpg", "png", "webp", "raw", "other")
ENTRY = np.dtype([("shard", "<i4"), ("format", "u1"), ("offset", "<i8"), ("length", "<u4")])


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy and bring it to the disk; for folders that do not bear their final name yet."""
    with explain_disk_errors(path), path.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def save_rows(path: Path, dtype: Any, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """As `save_array`, for an array that need not be in memory as a whole: its rows come in parts, in order."""
    with explain_disk_errors(path), path.open("wb") as file:
        _write_header(file, np.dtype(dtype), shape)
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
        file.flush()
        os.fsync(file.fileno())


def sidecar_shapes(manifest: dict[str, Any], schema: Schema) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """What the sidecars hold by the manifest's account: entries, labels, known."""
    count = manifest["samples"]
    return {
        "index.npy": (ENTRY, (count,)),
        "labels.npy": (np.dtype(np.float32), (count, schema.width)),
        "known.npy": (np.dtype(bool), (count, len(schema.attributes))),
    }


def fetch_sidecars(room: Room) -> None:
    """Bring the sidecars into the cache, of which the manifest must be there.

    Raises:
        UserError: a size is not what the manifest's counts imply, or the cache is too small for one shard.
    """
    where = f"{room.location}/{MANIFEST}"
    manifest = read_manifest(room.folder, str(room.location))
    hashes = manifest.get("sidecars")
    files = []
    for name, (dtype, shape) in sidecar_shapes(manifest, Schema.from_json(manifest.get("schema"), where)).items():
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
