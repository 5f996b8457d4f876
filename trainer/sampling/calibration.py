"""How certain a judge must be so that what it accepts is right as often as promised.

An image is accepted if the judge sees every word asked for, and its certainty reaches a threshold. Of images whose
truth is known, and which the judge has not learned from, those that a threshold accepts are right or wrong; if the
images to come are like them, a bound of Clopper & Pearson (1934) on the fraction that is right holds for those, too.

The threshold is the lowest of a fixed ladder whose bound keeps the promise. Choosing among several would let the best
of many lucky bounds win, so the chance of error is divided among the rungs, as in "Learn then Test" (Angelopoulos et
al. 2021, arXiv 2110.01052; selective risk: Geifman & El-Yaniv 2017, arXiv 1705.08500). The lowest rung, at which the
most images are accepted, has half of it, and each next one half of the rest.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

CONFIDENCE = 0.95  # that the bounds of one calibration set hold
LADDER = (0.0, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999)  # thresholds; at the lowest, seeing the words suffices


@dataclass(frozen=True)
class Outcomes:
    """Readings of calibration images by a judge, and whether it was right.

    Attributes:
        certainty: float (n,), the judge's probability of all words; 0 if it does not see them.
        right: bool (n,).
    """

    certainty: np.ndarray
    right: np.ndarray

    def __len__(self) -> int:
        return len(self.certainty)


@dataclass(frozen=True)
class Evidence:
    """Error rates of one threshold on a calibration set.

    Attributes:
        images: size of the set; of drawings: those that were tried.
        accepted: images of it that the threshold accepts.
        wrong: accepted images that are wrong.
        at_least: lower bound of the fraction that is right among all images that the threshold accepts.
    """

    images: int
    accepted: int
    wrong: int
    at_least: float


@dataclass(frozen=True)
class Rung:
    """A threshold, and what each calibration set says of it."""

    threshold: float
    evidence: Mapping[str, Evidence]

    @property
    def at_least(self) -> float:
        """The lowest of the bounds."""
        return min(evidence.at_least for evidence in self.evidence.values())


def accepted(certainty: np.ndarray, threshold: float) -> np.ndarray:
    """Return which images a threshold accepts, bool (n,): those in which all words are seen, with this certainty."""
    return (certainty > 0) & (certainty >= threshold)


def climb(sets: Mapping[str, Outcomes], confidence: float = CONFIDENCE) -> list[Rung]:
    """Return what the calibration sets say of each rung of the ladder, the lowest threshold first.

    With probability ``confidence`` over the images of a set, all of its bounds hold at once.
    """
    return [
        Rung(threshold, {name: _evidence(outcomes, threshold, level) for name, outcomes in sets.items()})
        for threshold, level in zip(LADDER, levels(confidence), strict=True)
    ]


def levels(confidence: float = CONFIDENCE) -> list[float]:
    """Return the chance that the bound of each rung may fail; together they are less than ``1 - confidence``."""
    return [(1 - confidence) / 2 ** (number + 1) for number in range(len(LADDER))]


def evidence(images: int, accepted: int, wrong: int, level: float) -> Evidence:
    """Return the evidence of accepted images, some of them wrong; its bound fails with a chance of ``level``."""
    return Evidence(images, accepted, wrong, lower_bound(accepted - wrong, accepted, level) if accepted else 0.0)


def lowest(rungs: list[Rung], promise: float) -> Rung | None:
    """Return the lowest rung that keeps a promise in every calibration set; None if none does."""
    return next((rung for rung in rungs if rung.at_least >= promise), None)


def best(rungs: list[Rung]) -> Rung:
    """Return the rung that can promise most; the lowest of them."""
    return max(rungs, key=lambda rung: rung.at_least)


@functools.lru_cache(maxsize=4096)
def lower_bound(right: int, count: int, level: float) -> float:
    """Return the one-sided lower bound of a proportion (Clopper & Pearson 1934).

    The bound exceeds the true proportion with a probability of at most ``level``, whatever the proportion and count.

    Args:
        right: successes, 0 ≤ right ≤ count.
        count: trials.
        level: 0 < level < 1.

    Returns:
        The proportion at which so many successes or more have the probability ``level``; 0 without a success.
    """
    if not 0 <= right <= count or not 0 < level < 1:
        raise ValueError(f"no bound for {right} of {count} at level {level}")
    low, high = 0.0, right / count if right else 0.0
    wrong = np.arange(count - right + 1)  # summed over failures, of which there are fewer
    ways = np.concatenate([[0.0], np.cumsum(np.log((count - wrong[1:] + 1) / wrong[1:]))])  # log of the binomial
    while high - low > 1e-7:
        middle = (low + high) / 2
        likely = np.exp(ways + wrong * math.log1p(-middle) + (count - wrong) * math.log(middle)).sum()
        low, high = (low, middle) if likely > level else (middle, high)
    return low


def _evidence(outcomes: Outcomes, threshold: float, level: float) -> Evidence:
    taken = accepted(outcomes.certainty, threshold)
    count, right = int(taken.sum()), int((taken & outcomes.right).sum())
    return evidence(len(outcomes), count, count - right, level)
