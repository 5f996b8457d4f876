"""Checksums of rows of pixels, at the speed of memory: a whole batch in one numpy call, without a dependency."""

from __future__ import annotations

import hashlib

import numpy as np

_ODD = np.uint64(0x9E3779B97F4A7C15)


class RowChecksum:
    """Multilinear hashes, Σ wᵢ·xᵢ mod 2⁶⁴ over the words x of a row, with weights drawn from a key.

    With words of 32 bits and weights of 64, two different rows have the same hash with a probability of at most 2⁻³²
    (Lemire & Kaser 2014, "Strongly universal string hashing is fast", section 2). The weights are odd, so a change
    within one word always changes the hash. The row's number is added: a row in the place of another does not pass.

    Args:
        key: determines the weights; hashes under another key differ.
        width: bytes of a row.
    """

    def __init__(self, key: bytes, width: int) -> None:
        self._word = np.dtype("<u4" if width % 4 == 0 else "u1")
        drawn = hashlib.shake_256(key).digest(8 * (width // self._word.itemsize))
        self._weights = np.frombuffer(drawn, "<u8") | np.uint64(1)

    def __call__(self, rows: np.ndarray, numbers: np.ndarray) -> np.ndarray:
        """Return the checksums of rows, uint64 (b,), never 0.

        Args:
            rows: uint8 (b, width), contiguous.
            numbers: int64 (b,), the number of each row, from 0 on.
        """
        sums = np.einsum("bi,i->b", rows.view(self._word), self._weights)
        sums += (numbers.astype(np.uint64) + np.uint64(1)) * _ODD
        sums[sums == 0] = 1
        return sums
