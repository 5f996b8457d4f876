"""Power-function profiles, against numerical integrals and the values that the paper prints."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.averages.profiles import LENGTHS, LONGEST, MAX_ERROR, decay, exponent, fit, inner_product, range_of


def profile(gamma: float, end: float, times: np.ndarray) -> np.ndarray:
    return np.where(times <= end, (gamma + 1) * times**gamma / end ** (gamma + 1), 0)


TIMES = (np.arange(20_000) + 0.5) / 20_000


@pytest.mark.parametrize("length", [0.01, 0.05, 0.1, 0.25, LONGEST])
def test_length_is_the_standard_deviation_of_the_profile(length: float) -> None:
    density = profile(exponent(length), 1.0, TIMES) / len(TIMES)
    mean = float(density @ TIMES)
    assert np.sqrt(density @ (TIMES - mean) ** 2) == pytest.approx(length, rel=1e-3)


def test_exponents_are_those_of_the_paper() -> None:
    """Section 3.1: relative widths of 0.05 and 0.10 are exponents of about 16.97 and 6.94."""
    assert [exponent(length) for length in LENGTHS] == pytest.approx([16.97, 6.94], abs=0.005)


def test_inner_products_are_integrals() -> None:
    for gamma_a, end_a, gamma_b, end_b in ((2.0, 1.0, 5.0, 0.6), (7.0, 0.3, 7.0, 0.9), (0.0, 0.5, 3.0, 0.5)):
        integral = np.mean(profile(gamma_a, end_a, TIMES) * profile(gamma_b, end_b, TIMES))
        assert inner_product(gamma_a, end_a, gamma_b, end_b) == pytest.approx(integral, rel=1e-3)


def test_decay_depends_on_images_not_on_steps() -> None:
    assert decay(64, 64, 0.1) == 0
    whole = decay(4096, 1024, 0.1)
    assert np.prod([decay(3072 + 256 * (i + 1), 256, 0.1) for i in range(4)]) == pytest.approx(whole)


def test_a_kept_length_is_fitted_by_itself() -> None:
    for number, length in enumerate(LENGTHS):
        found = fit([100, 200, 300], length)
        wanted = np.zeros((3, 2))
        wanted[-1, number] = 1
        assert found.factors == pytest.approx(wanted, abs=1e-6)
        assert found.error < 1e-5


@pytest.mark.parametrize("length", [0.03, 0.07, 0.15, 0.2])
def test_factors_add_up_to_one_and_give_the_profile(length: float) -> None:
    moments = np.arange(1, 33) * 1000
    found = fit(moments, length)
    assert found.factors.sum() == pytest.approx(1, abs=1e-9)
    kept = [[profile(exponent(saved), end / moments[-1], TIMES) for saved in LENGTHS] for end in moments]
    wanted = profile(exponent(length), 1.0, TIMES)
    difference = np.einsum("ml,mlt->t", found.factors, kept) - wanted
    error = np.linalg.norm(difference) / np.linalg.norm(wanted)
    assert error == pytest.approx(found.error, rel=0.02)
    assert error < 0.02


def test_more_snapshots_express_more_lengths() -> None:
    ranges = [range_of(np.arange(1, count + 1)) for count in (1, 16, 64)]
    assert ranges == sorted(ranges, key=lambda r: r[0] - r[1], reverse=True)
    assert ranges[-1][0] <= 0.02
    assert ranges[-1][1] >= 0.25
    assert fit(np.arange(1, 65), ranges[-1][0]).error <= MAX_ERROR < fit(np.arange(1, 65), 0.01).error
