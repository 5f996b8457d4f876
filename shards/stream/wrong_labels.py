"""Labels that are wrong for an image: another sample's label, or the true one with some attributes swapped.

Every draw is keyed by the position in the stream, so all ranks and workers find the same wrong labels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.core import rng

WRONG_LABELS = ("sample", "hard")
_SAME_CAPTION = 0.9  # captions whose unit vectors have at least this cosine say the same


@dataclass(frozen=True, eq=False)
class LabelTable:
    """Labels of N samples, with L entries for A attributes.

    Attributes:
        labels: float32 (N, L) label vectors, zero where unknown.
        known: bool (N, A): which attributes are known.
        starts: int64 (A,): the first entry of each attribute in a label vector.
        kinds: the kind of each attribute, see `shards.dataset.schema`.
    """

    labels: np.ndarray
    known: np.ndarray
    starts: np.ndarray
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.labels)

    def rows(self, samples: np.ndarray | list[int]) -> LabelTable:
        """Return the labels of some samples, in this order."""
        return LabelTable(self.labels[samples], self.known[samples], self.starts, self.kinds)

    @property
    def is_caption(self) -> np.ndarray:
        """bool (A,): attributes that are captions, encoded as unit vectors."""
        return np.array([kind == "text" for kind in self.kinds], bool)


def contradicts(table: LabelTable, other: LabelTable) -> np.ndarray:
    """Return whether each label of ``table`` contradicts that of ``other``: bool (N,).

    Two labels contradict each other if they differ in an attribute that is known in both. Captions differ if the
    cosine of their vectors is below 0.9.
    """
    return np.any(_contradictions(table, other), axis=1)


def _contradictions(table: LabelTable, other: LabelTable) -> np.ndarray:
    """Return the attributes in which two labels contradict each other: bool (N, A)."""
    differ = np.logical_or.reduceat(table.labels != other.labels, table.starts, axis=1)
    if (captions := table.is_caption).any():
        cosines = np.add.reduceat(table.labels * other.labels, table.starts, axis=1)
        differ = np.where(captions, cosines < _SAME_CAPTION, differ)
    return differ & table.known & other.known


def draw_partners(
    seed: int,
    positions: np.ndarray,
    samples: np.ndarray,
    table: LabelTable,
    pool: np.ndarray | None = None,
    attempts: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """Draw, for each position, a sample whose label is wrong for the image there.

    It is the first of ``attempts`` keyed draws whose label contradicts the image's own. If there is none (an unlabelled
    image, a dataset with a single label), the matching-aware loss has no third term for that image.

    Args:
        positions: int64 (B,), positions in the stream.
        samples: int64 (B,), the samples at these positions.
        table: the labels of all samples.
        pool: int (n,), samples to draw from, such as those with labels; all if None.

    Returns:
        (samples int64 (B,), found bool (B,)); where nothing was found, the sample is the image's own.
    """
    partners, found = samples.copy(), np.zeros(len(samples), bool)
    own = table.rows(samples)
    base = rng.key(seed, "wrong label")
    for attempt in range(attempts):
        left = np.flatnonzero(~found & own.known.any(axis=1))  # nothing contradicts an unlabelled image
        if not left.size:
            break
        drawn = rng.below(len(table if pool is None else pool), rng.bits(base, positions[left], attempt))
        drawn = drawn if pool is None else pool[drawn]
        wrong = contradicts(own.rows(left), table.rows(drawn))
        partners[left[wrong]] = drawn[wrong]
        found[left] = wrong
    return partners, found


def swap_attributes(seed: int, positions: np.ndarray, table: LabelTable, other: LabelTable) -> np.ndarray:
    """Return hard wrong labels: those of ``table`` with a third of the contradicted attributes taken from ``other``.

    Of up to five attributes in which the two labels contradict each other one is swapped, drawn by position. Of more,
    every third (of eight, every fourth) is swapped, from a drawn one on: images may show few of an attribute's
    neighbours, and one swap among hundreds would almost never be visible. A label without a contradiction stays as it
    is.

    Args:
        positions: int64 (B,), positions in the stream.
        table, other: labels of B samples each.

    Returns:
        float32 (B, L); its known attributes are those of ``table``.
    """
    contradictions = _contradictions(table, other)
    counts = contradictions.sum(axis=1)
    strides = np.maximum(counts // np.maximum(counts // 3, 1), 1)
    chosen = rng.bits(rng.key(seed, "hard wrong label"), positions) * counts >> 32
    ranks = np.cumsum(contradictions, axis=1) - 1
    swapped = contradictions & (ranks % strides[:, None] == (chosen % strides)[:, None])
    widths = np.diff(np.append(table.starts, table.labels.shape[1]))
    return np.where(np.repeat(swapped, widths, axis=1), other.labels, table.labels)
