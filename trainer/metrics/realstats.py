"""Features of a data set's real pictures, computed once: kept by data set, extractor and which pictures.

They lie in ~/.cache/cgan-trainer/features (or under XDG_CACHE_HOME), a safetensors file each, and may be deleted at any
time. One that is damaged, or that cannot be written, costs the time to compute it and nothing else.
"""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from shards import files
from shards.cache import cache_home
from shards.decode import decode_into, fit_into
from shards.errors import Failure, UserError
from shards.index import Dataset
from trainer.draw import sample_rows
from trainer.metrics.extractors import Extractor

_FORMAT = 1
_PIECE = 512  # pictures decoded at once


@dataclass(frozen=True)
class RealFeatures:
    """Features of real pictures.

    Attributes:
        rows: int64 (n,), which pictures of the data set they are of.
        features: float32 (n, F).
    """

    rows: np.ndarray
    features: np.ndarray


def real_features(
    dataset: Dataset, extractor: Extractor, count: int, seed: int = 0, cache: Path | None = None
) -> RealFeatures:
    """The features of ``count`` pictures, each another, drawn by key: from the cache, or computed and kept there.

    Args:
        cache: the folder; ~/.cache/cgan-trainer/features if not given.

    Raises:
        UserError: the data set has fewer pictures.
        Failure: a picture cannot be read.
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
    features = _kept(path, key, (count, extractor.dimensions))
    if features is None:
        features = np.concatenate([extractor(pictures(dataset, part)) for part in _pieces(rows)])
        _keep(path, key, features)
    return RealFeatures(rows, features)


def pictures(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Pictures of a data set, in the order asked for: uint8 (n, 3, S, S).

    Raises:
        Failure: one cannot be read.
    """
    out = np.empty((len(rows), dataset.size, dataset.size, 3), np.uint8)
    for pixels, row in zip(out, rows.tolist(), strict=True):
        try:
            if dataset.in_place:
                fit_into(dataset.read(row), pixels, dataset.fit, dataset.background)
            else:
                decode_into(dataset.read(row), pixels)
        except ValueError as error:
            raise Failure(
                f"{dataset.where}, picture {row}: {error}; `python -m shards verify` finds all such"
            ) from None
    return out.transpose(0, 3, 1, 2)


def _pieces(rows: np.ndarray) -> list[np.ndarray]:
    return [rows[start : start + _PIECE] for start in range(0, len(rows), _PIECE)]


def _kept(path: Path, key: dict[str, object], shape: tuple[int, int]) -> np.ndarray | None:
    """What the cache holds under a key, if it is whole."""
    try:
        with safe_open(path, "np") as file:
            metadata, features = file.metadata() or {}, file.get_tensor("features")
    except (OSError, SafetensorError):
        return None
    whole = (
        metadata.get("key") == json.dumps(key, sort_keys=True)
        and metadata.get("sha256") == _digest(features)
        and features.dtype == np.float32
        and features.shape == shape
    )
    return features if whole else None


def _keep(path: Path, key: dict[str, object], features: np.ndarray) -> None:
    metadata = {"key": json.dumps(key, sort_keys=True), "sha256": _digest(features)}
    try:
        with files.explained(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        files.write_bytes(path, save({"features": features}, metadata))
    except Failure as error:
        print(f"warning: features of real pictures are not kept for the next time: {error}", file=sys.stderr)


def _digest(features: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(features).tobytes()).hexdigest()
