"""Which sample stands at which position of the endless stream, and which wrong label goes with it.

Pure numpy. Nothing here knows of files, ranks or workers: position ``p`` of the stream is sample
``order(seed, epoch = p // n)[p % n]``, so a rank, a worker or a resumed run works out its own share in
O(1) time and memory, at any position of any length of data set.
"""

from __future__ import annotations

import math

import numpy as np

from shards import keyed

_ROUNDS = 8  # Luby & Rackoff 1988 need 4 for a permutation that cannot be told from a random one; 8 for small domains


def permute(base: int | np.ndarray, n: int, index: np.ndarray) -> np.ndarray:
    """Where a keyed permutation of ``range(n)`` sends each index.

    A Feistel network over the grid a x b that holds n cells: each round adds a hash of one coordinate to
    the other (modulo its side), which is a bijection whatever the hash. A cell past n walks on through
    the permutation until it lands inside (cycle walking); a·b - n < a, so this is rare.

    Args:
        base: 32-bit key, or an int64 array of keys of index's shape (one epoch key a position).
        n: size of the domain, in [1, 2⁶²].
        index: int64, values in [0, n).

    Returns:
        int64 of index's shape, values in [0, n); for one key, all different.
    """
    columns = math.isqrt(n - 1) + 1
    rows = -(-n // columns)
    bases = np.broadcast_to(np.asarray(base, np.int64), index.shape)
    found = _feistel(bases, rows, columns, index)
    outside = np.flatnonzero(found >= n)
    while outside.size:
        found[outside] = _feistel(bases[outside], rows, columns, found[outside])
        outside = outside[found[outside] >= n]
    return found


def _feistel(base: np.ndarray, rows: int, columns: int, index: np.ndarray) -> np.ndarray:
    row, column = np.divmod(index, columns)
    for turn in range(0, _ROUNDS, 2):
        row = (row + keyed.bits(base, column, turn)) % rows
        column = (column + keyed.bits(base, row, turn + 1)) % columns
    return row * columns + column


def sample_at(seed: int, n: int, positions: np.ndarray) -> np.ndarray:
    """The sample ids at positions of the endless stream: each id exactly once in every n positions.

    Args:
        seed: the run's seed.
        n: number of samples in the data set, at least 1.
        positions: int64 (B,), values ≥ 0; they may cross the ends of epochs.

    Returns:
        int64 (B,), values in [0, n).
    """
    epoch, index = np.divmod(positions, n)
    return permute(keyed.bits(keyed.key(seed, "order"), epoch), n, index)


def contradicts(
    label: np.ndarray, known: np.ndarray, other: np.ndarray, other_known: np.ndarray, starts: np.ndarray
) -> np.ndarray:
    """Whether two labels differ on an attribute that is known in both.

    Args:
        label, other: float32 (B, L) label vectors.
        known, other_known: bool (B, A) masks.
        starts: int64 (A,), the first entry of each attribute in the label vector.

    Returns:
        bool (B,).
    """
    differ = np.logical_or.reduceat(label != other, starts, axis=1)
    return np.any(differ & known & other_known, axis=1)


def partner_at(
    seed: int,
    positions: np.ndarray,
    samples: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    starts: np.ndarray,
    candidates: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """For each position, a sample whose label is *wrong* for the picture there.

    The first of ``candidates`` keyed draws from the data set that contradicts the picture's own label
    on an attribute known in both. Where there is none (an unlabelled picture, a data set of one label),
    the matching-aware loss has no third part for that picture.

    Args:
        positions: int64 (B,); samples: int64 (B,), the sample ids that stand there.
        labels: float32 (N, L); known: bool (N, A); starts: int64 (A,), see `contradicts`.

    Returns:
        (ids int64 (B,), found bool (B,)); where nothing was found the id is the picture's own.
    """
    partners, found = samples.copy(), np.zeros(len(samples), bool)
    base = keyed.key(seed, "wrong label")
    for attempt in range(candidates):
        left = np.flatnonzero(~found)
        if not left.size:
            break
        drawn = keyed.below(len(labels), keyed.bits(base, positions[left], attempt))
        own = samples[left]
        good = contradicts(labels[own], known[own], labels[drawn], known[drawn], starts)
        partners[left[good]] = drawn[good]
        found[left] = good
    return partners, found
