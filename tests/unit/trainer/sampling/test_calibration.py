"""The threshold that keeps a promise: bounds, the ladder, and how often a promise breaks over many calibrations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.sampling.calibration import CONFIDENCE, LADDER, Outcomes, accepted, best, climb, lower_bound, lowest


def outcomes(certainty: list[float], right: list[bool]) -> Outcomes:
    return Outcomes(np.array(certainty), np.array(right, bool))


def tail(right: int, count: int, proportion: float) -> float:
    """Return the probability of ``right`` or more successes, summed over successes."""
    terms = (math.comb(count, k) * proportion**k * (1 - proportion) ** (count - k) for k in range(right, count + 1))
    return math.fsum(terms)


# ---------------------------------------------------------------- the bound


@given(st.integers(1, 60), st.data())
def test_bound_is_the_proportion_at_which_so_many_successes_are_unlikely(count: int, data: st.DataObject) -> None:
    right, level = data.draw(st.integers(0, count)), data.draw(st.sampled_from([0.001, 0.025, 0.3]))
    bound = lower_bound(right, count, level)
    assert 0 <= bound <= right / count
    if right:
        assert tail(right, count, bound) == pytest.approx(level, abs=1e-5)


def test_bounds_of_known_counts() -> None:
    assert lower_bound(0, 10, 0.05) == 0
    assert lower_bound(10, 10, 0.05) == pytest.approx(0.05 ** (1 / 10)), "without a failure"
    assert lower_bound(36, 36, 0.025) > 0.9 > lower_bound(35, 35, 0.025), "the fewest that can promise 0.9"
    assert lower_bound(95, 100, 0.025) == pytest.approx(0.8872, abs=1e-4), "the published interval of 95 of 100"
    assert lower_bound(19_000, 20_000, 0.01) == pytest.approx(0.946, abs=1e-3), "no overflow"
    for wrong in ((11, 10, 0.05), (-1, 10, 0.05), (5, 10, 0.0), (5, 10, 1.0)):
        with pytest.raises(ValueError, match="no bound"):
            lower_bound(*wrong)


@given(st.integers(1, 80), st.integers(0, 79), st.floats(0.001, 0.4))
def test_bound_grows_with_successes_and_falls_with_confidence(count: int, right: int, level: float) -> None:
    right = min(right, count - 1)
    assert lower_bound(right, count, level) < lower_bound(right + 1, count, level)
    assert lower_bound(right, count, level / 2) <= lower_bound(right, count, level)


# ---------------------------------------------------------------- the ladder


def test_threshold_is_the_lowest_that_keeps_the_promise_in_every_set() -> None:
    sure = outcomes([0.97] * 400 + [0.85] * 100, [True] * 400 + [False] * 100)
    fine = outcomes([0.97] * 500, [True] * 500)
    rung = lowest(climb({"real": fine, "drawn": sure}), 0.9)
    assert rung is not None and rung.threshold == 0.9, "of two that keep it, the lower one"
    assert (rung.evidence["drawn"].accepted, rung.evidence["drawn"].wrong) == (400, 0)
    assert rung.evidence["real"].images == rung.evidence["drawn"].images == 500
    alone = lowest(climb({"real": fine}), 0.9)
    assert alone is not None and alone.threshold == 0.0
    assert rung.at_least == min(evidence.at_least for evidence in rung.evidence.values())


def test_no_threshold_keeps_a_promise_that_is_too_high_and_the_best_one_is_named() -> None:
    rungs = climb({"real": outcomes([0.999] * 90 + [0.5] * 10, [True] * 85 + [False] * 15)})
    assert lowest(rungs, 0.95) is None
    found = best(rungs)
    assert 0.8 < found.at_least < 0.9444 and lowest(rungs, found.at_least) is not None
    assert found.at_least == max(rung.at_least for rung in rungs)


@pytest.mark.parametrize("count", [0, 1, 35])
def test_tiny_sets_promise_little(count: int) -> None:
    rungs = climb({"real": outcomes([1.0] * count, [True] * count)})
    assert lowest(rungs, 0.9) is None
    assert best(rungs).at_least == pytest.approx(0.025 ** (1 / count) if count else 0.0, abs=1e-6)


def test_ties_are_accepted_together_and_what_is_not_seen_never() -> None:
    certainty = np.array([0.0, 0.3, 0.9, 0.9, 0.9, 1.0])
    assert accepted(certainty, 0.9).tolist() == [False, False, True, True, True, True]
    assert accepted(certainty, 0.0).tolist() == [False, True, True, True, True, True], "0: a word is not seen"
    rungs = climb({"real": outcomes([1.0] * 100, [True] * 50 + [False] * 50)})
    assert {rung.evidence["real"].accepted for rung in rungs} == {100}, "all equally certain: no rung is better"
    assert lowest(rungs, 0.5) is None and best(rungs).threshold == 0.0


def test_all_wrong_and_nothing_accepted_promise_nothing() -> None:
    for certainty in (0.0, 1.0):
        rungs = climb({"real": outcomes([certainty] * 50, [False] * 50)})
        assert {rung.at_least for rung in rungs} == {0.0}


# ---------------------------------------------------------------- the promise, over many calibrations


@pytest.mark.parametrize(("count", "promise"), [(60, 0.7), (300, 0.9), (1000, 0.95)])
def test_promise_is_broken_no_more_often_than_the_confidence_allows(count: int, promise: float) -> None:
    """Judges whose certainty means little: the fraction right at each rung is known, and often just misses the promise.

    A threshold is chosen from ``count`` images, of which half are less than 0.8 certain; broken means that it accepts
    images of which fewer than promised are right.
    """
    chance = np.random.default_rng(5)
    trials, broken, chosen = 600, 0, 0
    edges = np.array(LADDER)
    # What is right at each rung and above rises from below the promise to above it.
    share = promise + np.linspace(-0.03, 0.02, len(edges))
    for _ in range(trials):
        rung = chance.integers(len(edges), size=count)
        right = chance.random(count) < share[rung]
        found = lowest(climb({"drawn": Outcomes(np.maximum(edges[rung], 0.1), right)}), promise)
        if found is not None:
            chosen += 1
            taken = edges >= found.threshold
            broken += share[taken].mean() < promise
    assert broken / trials <= (1 - CONFIDENCE) + 3 * math.sqrt(0.05 * 0.95 / trials)
    assert count < 1000 or chosen > 0.001 * trials


def test_without_dividing_the_chance_of_error_the_promise_breaks_too_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """The best of several lucky bounds wins: the test above can fail."""
    chance = np.random.default_rng(6)
    trials, naive, divided = 500, 0, 0
    edges = np.array(LADDER)
    for _ in range(trials):
        rung = chance.integers(len(edges), size=400)
        right = chance.random(400) < 0.895  # below the promise of 0.9 everywhere
        certainty = np.maximum(edges[rung], 0.1)
        divided += lowest(climb({"drawn": Outcomes(certainty, right)}), 0.9) is not None
        naive += any(
            lower_bound(int(right[certainty >= edge].sum()), int((certainty >= edge).sum()), 0.05) >= 0.9
            for edge in edges
        )
    assert divided / trials <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials) < naive / trials


def test_drawings_after_a_calibration_are_right_as_often_as_promised() -> None:
    """Calibrate and draw until accepted, many times: on average the promise is kept with a margin."""
    chance = np.random.default_rng(7)

    def draw(count: int) -> Outcomes:
        right = chance.random(count) < 0.7
        logit = chance.normal(size=count) + np.where(right, 2.5, 0.0)
        seen = logit > 0
        return Outcomes(np.where(seen, 1 / (1 + np.exp(-2 * logit)), 0.0), right)

    shares = []
    for _ in range(100):
        rung = lowest(climb({"real": draw(600), "drawn": draw(450)}), 0.9)
        if rung is None:
            continue
        later = draw(2000)
        taken = accepted(later.certainty, rung.threshold)
        shares.append(later.right[taken].mean())
    assert len(shares) > 75
    assert np.mean(np.array(shares) >= 0.9) >= 0.9 and np.mean(shares) > 0.9
