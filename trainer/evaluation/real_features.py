"""Features of a dataset's real images, computed once and cached by dataset, extractor and selection of images.

The cache is ~/.cache/cgan-trainer/features (or below XDG_CACHE_HOME), one safetensors file per entry; it may be deleted
at any time. A damaged entry, or one that cannot be written, costs only the time to compute it. Images that could not be
read are tried again the next time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shards.core import atomic_io
from shards.core.cache_home import cache_home, is_own_file
from shards.core.errors import Failure, UserError, warn
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.dataset.label_rows import sample_rows
from trainer.evaluation.metrics.feature_extractors import Extractor

_FORMAT = 2
_CHUNK = 512  # images decoded at once


@dataclass(frozen=True)
class RealFeatures:
    """Features of real images.

    Attributes:
        rows: int64 (n,), the images' indices in the dataset.
        features: float32 (n, F).
        damaged: number of further images that could not be read.
    """

    rows: np.ndarray
    features: np.ndarray
    damaged: int = 0


@dataclass(frozen=True)
class RealImages:
    """What several extractors find in the same real images.

    Attributes:
        rows: int64 (n,), the images' indices in the dataset.
        measured: float32 (n, F) by the extractor's name.
        damaged: number of further images that could not be read.
    """

    rows: np.ndarray
    measured: dict[str, np.ndarray]
    damaged: int = 0


def real_images(
    dataset: Dataset, extractors: Sequence[Extractor], count: int, seed: int = 0, cache: Path | None = None
) -> RealImages:
    """Return what each of one or more extractors finds in ``count`` images; arguments and errors as `real_features`'s.

    Images that one of them could not read are left out.
    """
    found = {extractor.name: real_features(dataset, extractor, count, seed, cache) for extractor in extractors}
    rows = next(iter(found.values())).rows
    for features in found.values():
        rows = rows[np.isin(rows, features.rows)]
    measured = {name: features.features[np.isin(features.rows, rows)] for name, features in found.items()}
    return RealImages(rows, measured, count - len(rows))


def real_features(
    dataset: Dataset, extractor: Extractor, count: int, seed: int = 0, cache: Path | None = None
) -> RealFeatures:
    """Return the features of ``count`` distinct random images, from the cache or computed and cached.

    Damaged images are left out, counted, and reported by a warning.

    Args:
        seed: determines the images and their order.
        cache: directory of the cache; None: ~/.cache/cgan-trainer/features.

    Raises:
        UserError: the dataset has fewer images.
        Failure: no image can be read, or a remote one cannot be fetched.
    """
    if not 1 <= count <= len(dataset):
        raise UserError(
            "too-few-images",
            f"{dataset.where} has {len(dataset):,} images; features of {count:,} were requested",
        )
    rows = sample_rows(len(dataset), count, seed, "real pictures to compare with")
    key = {
        "format": _FORMAT,
        "data": dataset.fingerprint,
        "extractor": extractor.identity,
        "count": count,
        "seed": seed,
    }
    name = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:32]
    path = (cache or cache_home() / "features") / f"{extractor.name}-{name}.safetensors"
    found = _read_entry(path, key, extractor.dimensions)
    missing = rows[~np.isin(rows, found.rows)]
    computed = _compute(dataset, extractor, missing)
    if len(computed.rows):
        found = _merge(rows, found, computed)
        _write_entry(path, key, found)
    damaged = count - len(found.rows)
    if damaged == count:
        raise Failure(
            "damaged-images",
            f"{dataset.where}: none of {count:,} images could be read; `cgan verify` says what is wrong",
        )
    if damaged:
        warn(
            "damaged-images",
            f"{dataset.where}: {damaged:,} damaged images were left out of the real ones; "
            "`cgan verify` finds all of them",
        )
    return replace(found, damaged=damaged)


def read_images(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Read images of a dataset, in the order of ``rows``.

    Returns:
        images: uint8 (n, 3, S, S), white where damaged.
        intact: bool (n,).

    Raises:
        Failure: a remote image cannot be fetched.
    """
    out = np.empty((len(rows), dataset.size, dataset.size, 3), np.uint8)
    intact = np.zeros(len(rows), bool)
    for number, row in enumerate(rows.tolist()):
        try:
            read_pixels(dataset, row, out[number])
            intact[number] = True
        except (ValueError, Failure) as error:
            if dataset.remote and isinstance(error, Failure):  # a lost server, or a full disk
                raise
            out[number] = 255
    return out.transpose(0, 3, 1, 2), intact


def _compute(dataset: Dataset, extractor: Extractor, rows: np.ndarray) -> RealFeatures:
    """Compute the features of those images that can be read."""
    kept, features = [], [np.empty((0, extractor.dimensions), np.float32)]
    for start in range(0, len(rows), _CHUNK):
        part = rows[start : start + _CHUNK]
        images, intact = read_images(dataset, part)
        if intact.any():
            kept.append(part[intact])
            features.append(extractor(images[intact]))
    return RealFeatures(np.concatenate([rows[:0], *kept]), np.concatenate(features))


def _merge(rows: np.ndarray, one: RealFeatures, other: RealFeatures) -> RealFeatures:
    """Join two sets of features in the order of ``rows``, which contains each of their rows once."""
    if not len(one.rows):
        return other
    present = np.concatenate([one.rows, other.rows])
    by_row = np.argsort(rows)
    arrangement = np.argsort(by_row[np.searchsorted(rows, present, sorter=by_row)])
    return RealFeatures(present[arrangement], np.concatenate([one.features, other.features])[arrangement])


def _read_entry(path: Path, key: dict[str, object], dimensions: int) -> RealFeatures:
    """Return the entry of the cache if it is intact, otherwise features of no images."""
    nothing = RealFeatures(np.empty(0, np.int64), np.empty((0, dimensions), np.float32))
    if not is_own_file(path):
        return nothing
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            found = RealFeatures(file.get_tensor("rows"), file.get_tensor("features"))
    except (OSError, SafetensorError):
        return nothing
    intact = (
        metadata.get("key") == json.dumps(key, sort_keys=True)
        and metadata.get("sha256") == _digest(found)
        and found.features.dtype == np.float32
        and found.features.shape == (len(found.rows), dimensions)
    )
    return found if intact else nothing


def _write_entry(path: Path, key: dict[str, object], found: RealFeatures) -> None:
    metadata = {"key": json.dumps(key, sort_keys=True), "sha256": _digest(found)}
    try:
        with atomic_io.explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.write_bytes(path, save({"rows": found.rows, "features": found.features}, metadata))
    except Failure as error:
        warn("not-cached", f"features of real images are not cached: {error}")


def _digest(found: RealFeatures) -> str:
    return hashlib.sha256(found.rows.tobytes() + np.ascontiguousarray(found.features).tobytes()).hexdigest()
