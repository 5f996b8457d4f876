"""Power-function averages as functions of time, and other lengths as sums of them.

A power-function average of exponent γ at time T weights what was there at time t ≤ T by p(t) = (γ + 1) t^γ / T^(γ + 1)
(Karras et al. 2024, arXiv 2312.02696, section 3.1). Its *length* is the standard deviation of p relative to T. An
average of any other length is approximated by a sum of averages that were saved, chosen so that the sum of their
profiles fits best (section 3.2 and appendix C).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

LENGTHS = (0.05, 0.10)  # of the two averages that a run keeps
LONGEST = 0.288  # a length that γ = 0 exceeds only just; it weights all times alike
MAX_ERROR = 0.05  # of a profile, relative to it; rebuilt weights differ by less than a tenth of that
_RIDGE = 1e-9  # on the squares of factors, so that averages saved at nearly the same moment do not cancel each other

Floats = NDArray[np.floating]


def exponent(length: float) -> float:
    """Return the γ ≥ 0 of a relative standard deviation above 0 and up to `LONGEST`.

    The variance of p relative to T² is (γ + 1) / ((γ + 2)² (γ + 3)). Setting it to length² gives a cubic, whose largest
    root is wanted.
    """
    inverse = length**-2
    return float(np.roots([1, 7, 16 - inverse, 12 - inverse]).real.max())


def decay(images_seen: int, batch: int, length: float) -> float:
    """Return β = (1 - batch / images_seen)^(γ + 1), the decay of an average in the step that ends at ``images_seen``.

    The weight of each step is then the integral of p over its images, so steps of any size give the same average of
    weights that move evenly. The first step of a run has β = 0.
    """
    return (1 - batch / images_seen) ** (exponent(length) + 1)


def inner_product(gamma_a: ArrayLike, time_a: ArrayLike, gamma_b: ArrayLike, time_b: ArrayLike) -> Floats:
    """Return ∫ p_a(t) p_b(t) dt of two profiles that end at the times ``time_a`` and ``time_b``; arguments broadcast.

    The product is a power of t up to the earlier end m, hence
    (γa + 1) (γb + 1) m^(γa + γb + 1) / ((γa + γb + 1) Ta^(γa + 1) Tb^(γb + 1)), here by logarithms.
    """
    a, b = np.asarray(gamma_a, float), np.asarray(gamma_b, float)
    end_a, end_b = np.asarray(time_a, float), np.asarray(time_b, float)
    power = a + b + 1
    log = power * np.log(np.minimum(end_a, end_b)) - (a + 1) * np.log(end_a) - (b + 1) * np.log(end_b)
    return (a + 1) * (b + 1) / power * np.exp(log)


@dataclass(frozen=True)
class Fit:
    """How saved averages add up to one that was not saved.

    Attributes:
        factors: of each saved average, (K, len(LENGTHS)); their sum is 1.
        error: L2 norm of the difference of profiles, relative to that of the wanted one.
    """

    factors: Floats
    error: float


def fit(moments: ArrayLike, length: float) -> Fit:
    """Fit the profile of ``length`` at the last of ``moments`` by those of `LENGTHS` at all of them.

    Least squares with the factors' sum held at 1, which the paper leaves to the fit: weights that stand still must come
    out as they are, and most of a weight stands still.

    Args:
        moments: (K,) times at which averages were saved, each once, ascending.
        length: above 0 and up to `LONGEST`.
    """
    return _fit_all(moments, [length])[0]


def range_of(moments: ArrayLike) -> tuple[float, float]:
    """Return the shortest and the longest length, in steps of 0.005, that `fit` reaches within `MAX_ERROR`."""
    lengths = [float(length) for length in np.arange(0.005, LONGEST, 0.005).round(3)]
    fits = _fit_all(moments, lengths)
    reached = [length for length, found in zip(lengths, fits, strict=True) if found.error <= MAX_ERROR]
    return min(reached), max(reached)


def _fit_all(moments: ArrayLike, lengths: Sequence[float]) -> list[Fit]:
    """Return the fit of each length; see `fit`."""
    ends = np.asarray(moments, float) / np.max(moments)
    times, gammas = np.repeat(ends, len(LENGTHS)), np.tile([exponent(saved) for saved in LENGTHS], len(ends))
    wanted = np.array([exponent(length) for length in lengths])
    overlap = inner_product(gammas[:, None], times[:, None], gammas, times)
    target = inner_product(gammas[:, None], times[:, None], wanted, 1.0)
    count = len(times)
    system = np.ones((count + 1, count + 1))
    system[:count, :count] = overlap + _RIDGE * np.eye(count)
    system[count, count] = 0
    factors = np.linalg.solve(system, np.vstack([target, np.ones(len(lengths))]))[:count]
    norms = inner_product(wanted, 1.0, wanted, 1.0)
    differences = norms - 2 * (factors * target).sum(0) + (factors * (overlap @ factors)).sum(0)
    errors = np.sqrt(np.maximum(differences, 0) / norms)
    shape = len(ends), len(LENGTHS)
    return [Fit(column.reshape(shape), float(error)) for column, error in zip(factors.T, errors, strict=True)]
