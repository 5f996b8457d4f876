"""Candidates: several images that may be drawn for each label, of which the discriminator can choose.

Candidate c of image i is a function of (seed, i, c) and of the label. Candidate 0 is the image that is drawn without a
choice. Judges and discriminator see blocks of one size, whatever is asked for: their rounding depends on it, and so may
a choice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from shards.dataset.label_rows import Labels
from trainer.augment.pixels import weigh_by_alpha
from trainer.generation.sampler import Sampler
from trainer.networks.discriminator import Discriminator
from trainer.sampling.calibration import accepted

BLOCK = 32  # images per call of a network
MAX_CANDIDATES = 1 << 30  # of one image
_HELD = 256  # candidates in memory at once


class Chosen(NamedTuple):
    """Images chosen for n labels, in m of which a choice was found."""

    rows: np.ndarray  # int64 (m,), ascending: which labels
    images: np.ndarray  # uint8 (m, C, H, W)
    candidates: np.ndarray  # int64 (m,), which candidate of its label each is
    certainty: np.ndarray  # float64 (m,), the judge's; NaN without one
    tries: np.ndarray  # int64 (n,), tries of each label until its image was accepted, or it was given up


@dataclass(frozen=True)
class Candidates:
    """The candidates of some images.

    Attributes:
        sampler: draws them.
        labels: one per image.
        seed: determines the noise.
        start: number of the first image.
        ranked: candidates that are drawn for one try; the discriminator chooses the best.
        discriminator: ranks them; not needed if ``ranked`` is 1.
    """

    sampler: Sampler
    labels: Labels
    seed: int
    start: int = 0
    ranked: int = 1
    discriminator: Discriminator | None = None

    def draw(self, rows: np.ndarray, tries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw tries, each the best of its candidates.

        Args:
            rows: int64 (n,), which labels.
            tries: int64 (n,), which try of each; try t has the candidates from t·ranked on.

        Returns:
            Images uint8 (n, C, H, W), and which candidate each is, int64 (n,).
        """
        if self.ranked == 1:
            return self._generate(rows, tries), tries
        at_once = max(1, _HELD // self.ranked)
        groups = [slice(start, start + at_once) for start in range(0, len(rows), at_once)]
        found = [self._best(rows[group], tries[group]) for group in groups]
        return np.concatenate([images for images, _ in found]), np.concatenate([chosen for _, chosen in found])

    def _best(self, rows: np.ndarray, tries: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert self.discriminator is not None
        numbers = (tries[:, None] * self.ranked + np.arange(self.ranked)).reshape(-1)
        repeated = rows.repeat(self.ranked)
        images = self._generate(repeated, numbers)
        score = in_blocks(self._score, images, self.labels.label[repeated], self.labels.known[repeated])
        best = np.arange(len(rows)) * self.ranked + score.reshape(-1, self.ranked).argmax(1)
        return images[best], numbers[best]

    def _generate(self, rows: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        positions = rows + self.start + (candidates << 32)
        labels = Labels(self.labels.label[rows], self.labels.known[rows])
        return self.sampler.generate_at(labels, positions, self.seed)

    @torch.inference_mode()
    def _score(self, images: np.ndarray, label: np.ndarray, known: np.ndarray) -> np.ndarray:
        """Return logits of "real, and matching its label", float32 (n,)."""
        assert self.discriminator is not None
        x, y, k = (
            torch.from_numpy(np.asarray(part, np.float32)).to(self.sampler.device) for part in (images, label, known)
        )
        scores = self.discriminator(weigh_by_alpha(x / 127.5 - 1), y, k)
        return (scores if scores.dim() == 1 else scores[:, 0]).cpu().numpy()  # behind logits: scores of labels


def until_accepted(
    candidates: Candidates, judge: Callable[[np.ndarray], np.ndarray], threshold: float, most: int
) -> Chosen:
    """Choose for each label its first try that is accepted, among the first ``most``.

    Args:
        candidates: of the labels.
        judge: returns the certainty, float (n,), of images uint8 (n, C, H, W); see `accepted`.
        threshold: that the certainty must reach.
        most: tries for a label, before it is given up.
    """
    count = len(candidates.labels.label)
    tries, found = np.full(count, most, np.int64), dict[int, tuple[np.ndarray, int, float]]()
    waiting, tried, shape = np.arange(count), 0, ()
    while len(waiting) and tried < most:
        # Blocks are filled up with further tries: a few images that are hard to draw cost few calls.
        ahead = min(max(1, BLOCK // (len(waiting) * candidates.ranked)), most - tried)
        rows, turns = waiting.repeat(ahead), np.tile(np.arange(tried, tried + ahead), len(waiting))
        images, numbers = candidates.draw(rows, turns)
        certainty, shape = judge(images), images.shape[1:]
        taken = accepted(certainty, threshold).reshape(len(waiting), ahead)
        for index in np.flatnonzero(taken.any(1)).tolist():
            first = index * ahead + int(taken[index].argmax())
            tries[waiting[index]] = turns[first] + 1
            found[int(waiting[index])] = images[first], int(numbers[first]), float(certainty[first])
        waiting, tried = waiting[~taken.any(1)], tried + ahead
    rows = np.array(sorted(found), np.int64)
    chosen = [found[row] for row in sorted(found)]
    return Chosen(
        rows,
        np.array([image for image, _, _ in chosen], np.uint8).reshape(-1, *shape),
        np.array([number for _, number, _ in chosen], np.int64),
        np.array([value for _, _, value in chosen]),
        tries,
    )


def in_blocks(run: Callable[..., Any], *arrays: np.ndarray) -> np.ndarray:
    """Return what ``run`` returns for n rows of arrays, called with blocks of `BLOCK` rows; the last is filled up."""
    count = len(arrays[0])
    rows = np.minimum(np.arange(-(-count // BLOCK) * BLOCK), count - 1)
    blocks = [rows[start : start + BLOCK] for start in range(0, len(rows), BLOCK)]
    return np.concatenate([run(*(array[block] for array in arrays)) for block in blocks])[:count]
