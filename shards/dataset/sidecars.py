"""The sidecar files of a dataset: index, labels and masks."""

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
from shards.remote.cache import CachedDataset, FileRecord

# Index entries store the position in this list: append only. "raw" is uint8 (H, W, C) without a header; "other" is read
# by Pillow (only in foreign tars that were indexed in place).
FORMATS = ("jpg", "png", "webp", "raw", "other")
ENTRY = np.dtype([("shard", "<i4"), ("format", "u1"), ("offset", "<i8"), ("length", "<u4")])


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array as .npy and fsync it; not atomic, for directories that do not have their final name yet."""
    with explain_disk_errors(path), path.open("wb") as file:
        np.lib.format.write_array(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def save_rows(path: Path, dtype: Any, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> None:
    """Write an array like `save_array`, from consecutive parts of its rows, so that it need not fit in memory."""
    with explain_disk_errors(path), path.open("wb") as file:
        _write_header(file, np.dtype(dtype), shape)
        for part in parts:
            file.write(np.ascontiguousarray(part).tobytes())
        file.flush()
        os.fsync(file.fileno())


def label_dtype(manifest: dict[str, Any]) -> np.dtype:
    """Return the dtype of labels.npy according to the manifest: float32 unless it says uint8.

    Raises:
        UserError: it names another type.
    """
    name = manifest.get("label_dtype", "float32")
    if name not in ("float32", "uint8"):
        raise UserError("manifest-invalid", f"{MANIFEST}: label_dtype is {name!r}, not float32 or uint8; pack again")
    return np.dtype(name)


def sidecar_shapes(manifest: dict[str, Any], schema: Schema) -> dict[str, tuple[np.dtype, tuple[int, ...]]]:
    """Return the dtypes and shapes of the sidecars (entries, labels, known) according to the manifest."""
    count = manifest["samples"]
    return {
        "index.npy": (ENTRY, (count,)),
        "labels.npy": (label_dtype(manifest), (count, schema.width)),
        "known.npy": (np.dtype(bool), (count, len(schema.attributes))),
    }


def fetch_sidecars(cached: CachedDataset) -> None:
    """Fetch the sidecars into the cache, in which the manifest must be already.

    Raises:
        UserError: a size does not match the counts in the manifest, or the cache is too small for one shard.
    """
    where = f"{cached.location}/{MANIFEST}"
    manifest = read_manifest(cached.folder, str(cached.location))
    hashes = manifest.get("sidecars")
    files = []
    for name, (dtype, shape) in sidecar_shapes(manifest, Schema.from_json(manifest.get("schema"), where)).items():
        sha256 = hashes.get(name) if isinstance(hashes, dict) else None
        if not isinstance(sha256, str):
            raise UserError("manifest-invalid", f"{where}: no sha256 of {name}, needed to fetch it; pack again")
        content = math.prod(shape) * dtype.itemsize
        size = cached.remote_size(name)
        if size is None:  # not reported by the server: assume what `save_array` writes
            size = _header_bytes(dtype, shape) + content
        if not content < size <= content + 4096:
            raise UserError(
                "sidecar-damaged",
                f"{cached.location}/{name}: {size:,} bytes do not match the counts in the manifest; upload it again",
            )
        files.append(FileRecord(name, size, sha256))
    need = sum(file.bytes for file in files) + max(shard["bytes"] for shard in manifest["shards"])
    if need > cached.limit:
        raise UserError(
            "cache-too-small",
            f"{cached.location}: labels, index and one shard take {need:,} bytes, more than the cache limit of "
            f"{cached.limit:,}; raise --cache-limit",
        )
    for file in files:
        os.close(cached.open(file))


def _header_bytes(dtype: np.dtype, shape: tuple[int, ...]) -> int:
    """Return the size of the header of a .npy file in bytes."""
    header = io.BytesIO()
    _write_header(header, dtype, shape)
    return len(header.getvalue())


def _write_header(file: BinaryIO, dtype: np.dtype, shape: tuple[int, ...]) -> None:
    described = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, described)
