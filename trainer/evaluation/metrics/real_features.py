"""Features of a data set's real pictures, computed once: kept by data set, extractor and which pictures.

They lie in ~/.cache/cgan-trainer/features (or under XDG_CACHE_HOME), a safetensors file each, and may be deleted at any
time. One that is damaged, or that cannot be written, costs the time to compute it and nothing else. Pictures that could
not be read are tried again the next time.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shards.core import atomic_io
from shards.core.cache_home import cache_home
from shards.core.errors import Failure, UserError, warn
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.dataset.label_rows import sample_rows
from trainer.evaluation.metrics.feature_extractors import Extractor

_FORMAT = 2
_PIECE = 512  # pictures decoded at once


@dataclass(frozen=True)
class RealFeatures:
    """Features of real pictures.

    Attributes:
        rows: int64 (n,), which pictures of the data set they are of.
        features: float32 (n, F).
        damaged: how many more were asked for and could not be read.
    """

    rows: np.ndarray
    features: np.ndarray
    damaged: int = 0


def real_features(
    dataset: Dataset, extractor: Extractor, count: int, seed: int = 0, cache: Path | None = None
) -> RealFeatures:
    """The features of ``count`` pictures, each another, drawn by key: from the cache, or computed and kept there.

    Damaged pictures are left out, counted, and told of on stderr.

    Args:
        cache: the folder; ~/.cache/cgan-trainer/features if not given.

    Raises:
        UserError: the data set has fewer pictures.
        Failure: none of them can be read, or a remote one not be fetched.
    """
    if not 1 <= count <= len(dataset):
        raise UserError(f"{dataset.where} has {len(dataset):,} pictures; features of {count:,} were asked for")
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
    found = _kept(path, key, extractor.dimensions)
    missing = rows[~np.isin(rows, found.rows)]
    more = _computed(dataset, extractor, missing)
    if len(more.rows):
        found = _merged(rows, found, more)
        _keep(path, key, found)
    damaged = count - len(found.rows)
    if damaged == count:
        raise Failure(
            f"{dataset.where}: none of {count:,} pictures could be read; `python -m shards verify` says what is wrong"
        )
    if damaged:
        warn(
            f"{dataset.where}: {damaged:,} damaged pictures were left out of the real ones; "
            "`python -m shards verify` finds all such"
        )
    return replace(found, damaged=damaged)


def pictures(dataset: Dataset, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of a data set, in the order asked for.

    Returns:
        uint8 (n, 3, S, S), white where one is damaged, and bool (n,), whether it is whole.

    Raises:
        Failure: a remote one cannot be fetched.
    """
    out = np.empty((len(rows), dataset.size, dataset.size, 3), np.uint8)
    whole = np.zeros(len(rows), bool)
    for number, row in enumerate(rows.tolist()):
        try:
            read_pixels(dataset, row, out[number])
            whole[number] = True
        except (ValueError, Failure) as error:
            if dataset.remote and isinstance(error, Failure):  # a lost server, or a full disk
                raise
            out[number] = 255
    return out.transpose(0, 3, 1, 2), whole


def _computed(dataset: Dataset, extractor: Extractor, rows: np.ndarray) -> RealFeatures:
    """The features of those that can be read."""
    kept, features = [], [np.empty((0, extractor.dimensions), np.float32)]
    for start in range(0, len(rows), _PIECE):
        part = rows[start : start + _PIECE]
        images, whole = pictures(dataset, part)
        if whole.any():
            kept.append(part[whole])
            features.append(extractor(images[whole]))
    return RealFeatures(np.concatenate([rows[:0], *kept]), np.concatenate(features))


def _merged(rows: np.ndarray, one: RealFeatures, other: RealFeatures) -> RealFeatures:
    """Both together, in the order of ``rows``, which holds each of theirs once."""
    if not len(one.rows):
        return other
    there = np.concatenate([one.rows, other.rows])
    place = np.argsort(rows)  # where each row stands, ascending by row
    order = np.argsort(place[np.searchsorted(rows, there, sorter=place)])
    return RealFeatures(there[order], np.concatenate([one.features, other.features])[order])


def _kept(path: Path, key: dict[str, object], dimensions: int) -> RealFeatures:
    """What the cache holds under a key, if it is whole; else nothing."""
    nothing = RealFeatures(np.empty(0, np.int64), np.empty((0, dimensions), np.float32))
    try:
        with safe_open(path, "np") as file:
            metadata = file.metadata() or {}
            found = RealFeatures(file.get_tensor("rows"), file.get_tensor("features"))
    except (OSError, SafetensorError):
        return nothing
    whole = (
        metadata.get("key") == json.dumps(key, sort_keys=True)
        and metadata.get("sha256") == _digest(found)
        and found.features.dtype == np.float32
        and found.features.shape == (len(found.rows), dimensions)
    )
    return found if whole else nothing


def _keep(path: Path, key: dict[str, object], found: RealFeatures) -> None:
    metadata = {"key": json.dumps(key, sort_keys=True), "sha256": _digest(found)}
    try:
        with atomic_io.explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        atomic_io.write_bytes(path, save({"rows": found.rows, "features": found.features}, metadata))
    except Failure as error:
        warn(f"features of real pictures are not kept for the next time: {error}")


def _digest(found: RealFeatures) -> str:
    return hashlib.sha256(found.rows.tobytes() + np.ascontiguousarray(found.features).tobytes()).hexdigest()
