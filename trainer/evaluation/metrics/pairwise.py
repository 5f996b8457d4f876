"""Distances between two sets of features, a block of rows at a time, so that any number fits into memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from shards.core.errors import UserError

_BLOCK = 1 << 24  # distances held at once: 128 MB
_ROWS = 4096  # queries at once, whose differences from their neighbours are held


def checked(features: np.ndarray, what: str) -> np.ndarray:
    """Features as float64 (N, F).

    Args:
        what: whose they are, for the message.

    Raises:
        UserError: a number in them is infinite or none; a training that diverged draws such pictures.
        ValueError: no matrix.
    """
    if features.ndim != 2:
        raise ValueError(f"features are a matrix (N, F), not of shape {features.shape}")
    rows = np.flatnonzero(~np.isfinite(features).all(1))
    if rows.size:
        raise UserError(
            f"the features of {what} {int(rows[0])} (and {rows.size - 1} more) hold numbers that are not finite; "
            "look at those pictures, or take an earlier checkpoint"
        )
    return np.asarray(features, np.float64)


def blocks(queries: np.ndarray, keys: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Squared Euclidean distances of ``queries`` (N, F) to ``keys`` (M, F): slices of N with float64 (n, M).

    By ‖a‖² + ‖b‖² - 2⟨a, b⟩ about the keys' mean, at least 0; the error is some 1e-15 of the largest norm².
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
    """The k nearest keys of each query, nearest first.

    Args:
        queries, keys: float (N, F) and (M, F), finite.
        k: how many, at most M (M - 1 where ``same``).
        same: queries are the keys, and no row is its own neighbour.

    Returns:
        distances float64 (N, k), computed anew by differences, so that a copy's is 0; rows of the keys int64 (N, k).

    Raises:
        ValueError: fewer keys than k.
    """
    if not 1 <= k <= len(keys) - same:
        raise ValueError(f"{k} neighbours among {len(keys) - same}")
    distances, found = np.empty((len(queries), k)), np.empty((len(queries), k), np.int64)
    for rows, squares in blocks(queries, keys):
        if same:
            squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
        near = np.argpartition(squares, k - 1, 1)[:, :k]
        exact = np.stack([np.linalg.norm(queries[rows] - keys[near[:, i]], axis=1) for i in range(k)], 1)
        order = np.argsort(exact, 1, kind="stable")
        distances[rows] = np.take_along_axis(exact, order, 1)
        found[rows] = np.take_along_axis(near, order, 1)
    return distances, found
