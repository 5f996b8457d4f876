"""Features of a dataset's real images, computed once and cached by dataset, extractor and selection of images.

The cache is ~/.cache/cgan-trainer/features (or below XDG_CACHE_HOME), one safetensors file per entry; it may be deleted
at any time. A damaged entry, or one that cannot be written, costs only the time to compute it. Images that could not be
read are tried again the next time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shards.core import atomic_io
from shards.core.cache_home import cache_home, is_own_file
from shards.core.errors import Failure, UserError, warn
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_images
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
    """Outputs of several extractors on the same real images.

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
    """Return what each of one or more extractors finds in ``count`` distinct random images, cached or computed.

    An image is decoded once for all of them. Damaged images are left out, counted, and reported by a warning.

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
    found = _look_up_or_compute(dataset, extractors, rows, seed, cache or cache_home() / "features")
    shared = rows
    for features in found:
        shared = shared[np.isin(shared, features.rows)]
    damaged = count - len(shared)
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
    named = zip(extractors, found, strict=True)
    measured = {extractor.name: each.features[np.isin(each.rows, shared)] for extractor, each in named}
    return RealImages(shared, measured, damaged)


def real_features(
    dataset: Dataset, extractor: Extractor, count: int, seed: int = 0, cache: Path | None = None
) -> RealFeatures:
    """Return what one extractor finds in ``count`` distinct random images; arguments and errors as `real_images`'s."""
    found = real_images(dataset, [extractor], count, seed, cache)
    return RealFeatures(found.rows, found.measured[extractor.name], found.damaged)


def _look_up_or_compute(
    dataset: Dataset, extractors: Sequence[Extractor], rows: np.ndarray, seed: int, folder: Path
) -> list[RealFeatures]:
    """Return by extractor the features of those images that can be read, in the order of ``rows``, and cache them."""
    entries = [_Entry.of(folder, dataset, extractor, len(rows), seed) for extractor in extractors]
    found = [entry.read() for entry in entries]
    missing = [~np.isin(rows, each.rows) for each in found]
    for number, computed in enumerate(_compute(dataset, extractors, rows, missing)):
        if len(computed.rows):
            found[number] = _merge(rows, found[number], computed)
            entries[number].write(found[number])
    return found


def _compute(
    dataset: Dataset, extractors: Sequence[Extractor], rows: np.ndarray, missing: Sequence[np.ndarray]
) -> list[RealFeatures]:
    """Compute for each extractor the features of those of its missing images that can be read; decode each once.

    Args:
        missing: by extractor, which of the ``rows`` it needs, bool (n,).
    """
    kept: list[list[np.ndarray]] = [[rows[:0]] for _ in extractors]
    features = [[np.empty((0, extractor.dimensions), np.float32)] for extractor in extractors]
    needed = np.flatnonzero(np.any(missing, axis=0))
    for start in range(0, len(needed), _CHUNK):
        part = needed[start : start + _CHUNK]
        images, intact = read_images(dataset, rows[part])
        for number, extractor in enumerate(extractors):
            chosen = intact & missing[number][part]
            if chosen.any():
                kept[number].append(rows[part[chosen]])
                features[number].append(extractor(images[chosen]))
    return [RealFeatures(np.concatenate(k), np.concatenate(f)) for k, f in zip(kept, features, strict=True)]


def _merge(rows: np.ndarray, one: RealFeatures, other: RealFeatures) -> RealFeatures:
    """Join two sets of features in the order of ``rows``, which contains each of their rows once."""
    if not len(one.rows):
        return other
    present = np.concatenate([one.rows, other.rows])
    by_row = np.argsort(rows)
    arrangement = np.argsort(by_row[np.searchsorted(rows, present, sorter=by_row)])
    return RealFeatures(present[arrangement], np.concatenate([one.features, other.features])[arrangement])


@dataclass(frozen=True)
class _Entry:
    """A file of the cache, and what decides its content."""

    path: Path
    key: str
    dimensions: int

    @classmethod
    def of(cls, folder: Path, dataset: Dataset, extractor: Extractor, count: int, seed: int) -> _Entry:
        parts = {
            "format": _FORMAT,
            "data": dataset.fingerprint,
            "extractor": extractor.identity,
            "count": count,
            "seed": seed,
        }
        key = json.dumps(parts, sort_keys=True)
        name = hashlib.sha256(key.encode()).hexdigest()[:32]
        return cls(folder / f"{extractor.name}-{name}.safetensors", key, extractor.dimensions)

    def read(self) -> RealFeatures:
        """Return the features if the file is intact, otherwise features of no images."""
        nothing = RealFeatures(np.empty(0, np.int64), np.empty((0, self.dimensions), np.float32))
        if not is_own_file(self.path):
            return nothing
        try:
            with safe_open(self.path, "np") as file:
                metadata = file.metadata() or {}
                found = RealFeatures(file.get_tensor("rows"), file.get_tensor("features"))
        except (OSError, SafetensorError):
            return nothing
        intact = (
            metadata.get("key") == self.key
            and metadata.get("sha256") == _digest(found)
            and found.features.dtype == np.float32
            and found.features.shape == (len(found.rows), self.dimensions)
        )
        return found if intact else nothing

    def write(self, found: RealFeatures) -> None:
        """Write the file, or warn that it cannot be written."""
        try:
            with atomic_io.explain_disk_errors(self.path):
                self.path.parent.mkdir(parents=True, exist_ok=True)
            tensors = {"rows": found.rows, "features": found.features}
            atomic_io.write_bytes(self.path, save(tensors, {"key": self.key, "sha256": _digest(found)}))
        except Failure as error:
            warn("not-cached", f"features of real images are not cached: {error}")


def _digest(found: RealFeatures) -> str:
    return hashlib.sha256(found.rows.tobytes() + np.ascontiguousarray(found.features).tobytes()).hexdigest()
