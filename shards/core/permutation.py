"""A keyed pseudorandom permutation of range(n), evaluated point by point in O(1) memory."""

from __future__ import annotations

import math

import numpy as np

from shards.core import rng

_ROUNDS = 8  # Luby & Rackoff 1988 need 4 for a permutation that cannot be told from a random one; 8 for small domains


def permute(base: int | np.ndarray, n: int | np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return the image of each index under a keyed pseudorandom permutation of ``range(n)``.

    A Feistel network over a grid of a x b ≥ n cells: each round adds a hash of one coordinate to the other (modulo its
    side), which is a bijection for any hash. A result ≥ n is permuted again until it is below n (cycle walking);
    a·b - n < a, so this is rare.

    Args:
        base: 32-bit key, or an int64 array of keys of index's shape (one epoch key per position).
        n: size of the domain, in [1, 2⁶²], or an int64 array of sizes below 2⁵² of index's shape.
        index: int64, values in [0, n).

    Returns:
        int64 of index's shape, values in [0, n); distinct for distinct indices under one key and size.
    """
    columns = _side(n)
    rows = -(-n // columns)
    bases = np.broadcast_to(np.asarray(base, np.int64), index.shape)
    found = _feistel(bases, rows, columns, index)
    while (outside := np.flatnonzero(found >= n)).size:
        grid = [side[outside] if isinstance(side, np.ndarray) else side for side in (rows, columns)]
        found[outside] = _feistel(bases[outside], grid[0], grid[1], found[outside])
    return found


def _side(n: int | np.ndarray) -> int | np.ndarray:
    """Return the smallest integer whose square is at least n."""
    if not isinstance(n, np.ndarray):
        return math.isqrt(n - 1) + 1
    root = np.sqrt(n).astype(np.int64)  # exact, or off by one
    root += root * root < n
    return root - ((root - 1) ** 2 >= n)


def _feistel(base: np.ndarray, rows: int | np.ndarray, columns: int | np.ndarray, index: np.ndarray) -> np.ndarray:
    row, column = np.divmod(index, columns)
    for turn in range(0, _ROUNDS, 2):
        row = (row + rng.bits(base, column, turn)) % rows
        column = (column + rng.bits(base, row, turn + 1)) % columns
    return row * columns + column
