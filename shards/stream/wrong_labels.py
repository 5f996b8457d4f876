"""Labels that are wrong for an image: drawn from other samples, by position."""

from __future__ import annotations

import numpy as np

from shards.core import rng

WRONG_LABELS = ("sample", "hard")
_SAME_TEXT = 0.9  # two captions whose unit vectors have a cosine of at least this say the same


def contradicts(
    label: np.ndarray,
    known: np.ndarray,
    other: np.ndarray,
    other_known: np.ndarray,
    starts: np.ndarray,
    texts: np.ndarray | None = None,
) -> np.ndarray:
    """Whether two labels differ on an attribute that is known in both.

    Args:
        label, other: float32 (B, L) label vectors.
        known, other_known: bool (B, A) masks.
        starts: int64 (A,), the first entry of each attribute in the label vector.
        texts: bool (A,), which attributes are captions as unit vectors: these differ if their cosine is
            under 0.9; none if None.

    Returns:
        bool (B,).
    """
    return np.any(_contradicted(label, known, other, other_known, starts, texts), axis=1)


def _contradicted(
    label: np.ndarray,
    known: np.ndarray,
    other: np.ndarray,
    other_known: np.ndarray,
    starts: np.ndarray,
    texts: np.ndarray | None,
) -> np.ndarray:
    """Which attributes two labels contradict each other in, bool (B, A); see `contradicts`."""
    differ = np.logical_or.reduceat(label != other, starts, axis=1)
    if texts is not None and texts.any():
        far = np.add.reduceat(label * other, starts, axis=1) < _SAME_TEXT
        differ = np.where(texts, far, differ)
    return differ & known & other_known


def partner_at(
    seed: int,
    positions: np.ndarray,
    samples: np.ndarray,
    labels: np.ndarray,
    known: np.ndarray,
    starts: np.ndarray,
    texts: np.ndarray | None = None,
    pool: np.ndarray | None = None,
    candidates: int = 16,
) -> tuple[np.ndarray, np.ndarray]:
    """For each position, a sample whose label is *wrong* for the picture there.

    The first of ``candidates`` keyed draws from the pool that contradicts the picture's own label
    on an attribute known in both. Where there is none (an unlabelled picture, a data set of one label),
    the matching-aware loss has no third part for that picture.

    Args:
        positions: int64 (B,); samples: int64 (B,), the sample ids that stand there.
        labels: float32 (N, L); known: bool (N, A); starts: int64 (A,); texts: bool (A,), see `contradicts`.
        pool: int (n,), the sample ids to draw from, such as those with labels; all N if None.

    Returns:
        (ids int64 (B,), found bool (B,)); where nothing was found the id is the picture's own.
    """
    partners, found = samples.copy(), np.zeros(len(samples), bool)
    own_labels, own_known = labels[samples], known[samples]
    base = rng.key(seed, "wrong label")
    for attempt in range(candidates):
        left = np.flatnonzero(~found & own_known.any(axis=1))  # nothing contradicts a picture without a label
        if not left.size:
            break
        drawn = rng.below(len(labels if pool is None else pool), rng.bits(base, positions[left], attempt))
        drawn = drawn if pool is None else pool[drawn]
        good = contradicts(own_labels[left], own_known[left], labels[drawn], known[drawn], starts, texts)
        partners[left[good]] = drawn[good]
        found[left] = good
    return partners, found


def hard(
    seed: int,
    positions: np.ndarray,
    label: np.ndarray,
    known: np.ndarray,
    other: np.ndarray,
    other_known: np.ndarray,
    starts: np.ndarray,
    texts: np.ndarray | None = None,
) -> np.ndarray:
    """Labels that are only just wrong: the right ones, with one attribute taken from another label.

    The attribute is drawn, by position, from those in which the labels contradict each other; where there is none,
    the label stays as it is.

    Args:
        positions: int64 (B,); the others as in `contradicts`.

    Returns:
        float32 (B, L); what is known of it is what is known of ``label``.
    """
    differ = _contradicted(label, known, other, other_known, starts, texts)
    chosen = rng.bits(rng.key(seed, "hard wrong label"), positions) * differ.sum(axis=1) >> 32
    changed = differ & (np.cumsum(differ, axis=1) == chosen[:, None] + 1)
    widths = np.diff(np.append(starts, label.shape[1]))
    return np.where(np.repeat(changed, widths, axis=1), other, label)
