"""One batch, from the stream to the training step."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor


class Batch(NamedTuple):
    """One rank's share of a global batch, b = B / R samples."""

    images: Tensor  # uint8 (b, 3, S, S), channels last in memory
    label: Tensor  # float32 (b, L), zero where unknown
    known: Tensor  # float32 (b, A), 0 or 1
    wrong_label: Tensor  # float32 (b, L): contradicts the picture's own label, where has_wrong
    wrong_known: Tensor  # float32 (b, A)
    has_wrong: Tensor  # float32 (b,), 0 or 1
    position: Tensor  # int64 (b,), place in the endless stream
    wrong_count: int  # how many of the *global* batch have a wrong label
    damaged: int = 0  # how many of this share could not be read or decoded, and were replaced
    complaint: str = ""  # what was wrong with the first of them, and where
