"""Distances between two sets of features, one block of rows at a time, so that any number of rows fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shards.core.errors import UserError

_BLOCK = 1 << 24  # distances held at once: 128 MB
_ROWS = 4096  # queries at once; their differences from their neighbours are held in memory


def as_finite(features: np.ndarray, name: str) -> np.ndarray:
    """Return features as float64 (N, F).

    Args:
        name: what one row is, such as "generated image", for the error message.

    Raises:
        UserError: a number is not finite; a training run that diverged produces such images.
        ValueError: the features are not a matrix.
    """
    if features.ndim != 2:
        raise ValueError(f"features are a matrix (N, F), not of shape {features.shape}")
    rows = np.flatnonzero(~np.isfinite(features).all(1))
    if rows.size:
        raise UserError(
            "non-finite",
            f"the features of {name} {int(rows[0])} (and {rows.size - 1} more) contain numbers that are not finite; "
            "inspect those images, or use an earlier checkpoint",
        )
    return np.asarray(features, np.float64)


def blocks(queries: np.ndarray, keys: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Yield slices of the queries with their squared Euclidean distances to all keys, float64 (n, M).

    Computed as ‖a‖² + ‖b‖² - 2⟨a, b⟩ about the keys' mean, clipped at 0; the error is about 1e-15 of the largest norm².

    Args:
        queries, keys: float (N, F), (M, F).
    """
    centre = keys.mean(0, dtype=np.float64)
    keys = keys - centre
    norms = np.einsum("nf,nf->n", keys, keys)
    step = max(1, min(_ROWS, _BLOCK // max(1, len(keys))))
    for start in range(0, len(queries), step):
        rows = slice(start, min(start + step, len(queries)))
        part = queries[rows] - centre
        squares = part @ keys.T
        squares *= -2
        squares += norms
        squares += np.einsum("nf,nf->n", part, part)[:, None]
        yield rows, np.maximum(squares, 0, out=squares)


def nearest(queries: np.ndarray, keys: np.ndarray, k: int = 1, *, same: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Return the k nearest keys of each query, nearest first.

    Args:
        queries, keys: float (N, F), (M, F), finite.
        k: number of neighbours, at most M (M - 1 if ``same``).
        same: the queries are the keys, and a row is not its own neighbour.

    Returns:
        distances: float64 (N, k), recomputed from differences, so that the distance of a copy is exactly 0.
        rows: int64 (N, k), indices of the keys.

    Raises:
        ValueError: there are fewer than k keys.
    """
    if not 1 <= k <= len(keys) - same:
        raise ValueError(f"{k} neighbours among {len(keys) - same}")
    distances, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for rows, squares in blocks(queries, keys):
        if same:
            squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
        near = np.argpartition(squares, k - 1, 1)[:, :k]
        exact = np.stack([np.linalg.norm(queries[rows] - keys[near[:, i]], axis=1) for i in range(k)], 1)
        ranking = np.argsort(exact, 1, kind="stable")
        distances[rows] = np.take_along_axis(exact, ranking, 1)
        found[rows] = np.take_along_axis(near, ranking, 1)
    return distances, found
