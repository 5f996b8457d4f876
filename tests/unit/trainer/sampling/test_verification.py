"""Calibration draws as drawing does: what a generator draws badly counts as often as in the output."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from shards.dataset.label_rows import Labels
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from trainer.evaluation.metrics.label_accuracy import Tally
from trainer.sampling import verification
from trainer.sampling.candidates import Candidates, until_accepted
from trainer.sampling.reading import Request
from trainer.sampling.verification import DRAWN, Verifier

SCHEMA = Schema((Attribute("hat", "tag", ("hat",)), Attribute("smile", "tag", ("smile",))))
HAT = Request(SCHEMA, {0: 1})
TALLY = SimpleNamespace(tally=Tally(100, 100))


class HardSmiles:
    """Draws hats: of half of the labels, those that smile, seldom one that the judge accepts, and then often wrongly.

    The first pixel says whether the judge sees a hat, the second whether there is one.
    """

    schema = SCHEMA
    accepted, right = (0.95, 0.10), (0.99, 0.50)  # without a smile, and with one

    def __init__(self) -> None:
        self.drawn = 0

    def labels_for(self, phrase: str, count: int, seed: int) -> Labels:
        smile = np.random.default_rng(seed).integers(2, size=count)
        return Labels(np.stack([np.ones(count), smile], 1).astype(np.float32), np.ones((count, 2), bool))

    def generate_at(self, labels: Labels, positions: np.ndarray, seed: int) -> np.ndarray:
        self.drawn += len(positions)
        smile = labels.label[:, 1].astype(int)
        dice = np.array([np.random.default_rng((seed, int(position))).random(2) for position in positions])
        pixels = dice < np.stack([np.array(self.accepted)[smile], np.array(self.right)[smile]], 1)
        return np.repeat(pixels[:, :, None, None], 1, 2).astype(np.uint8).reshape(-1, 1, 1, 2)


def sees(pixel: int) -> Any:
    """Return a judge that is sure of what one pixel says."""

    def logits(images: np.ndarray) -> np.ndarray:
        return np.stack([np.where(images[:, 0, 0, pixel] > 0, 20.0, -20.0), np.zeros(len(images))], 1)

    return SimpleNamespace(logits=logits, accuracy={"hat": TALLY})


def verifier(sampler: Any, real_right: int = 1000) -> Verifier:
    """Return a verifier whose judge reads so many of 1000 real images rightly."""
    logits = np.full((1000, 2), 20.0, np.float32)
    logits[real_right:, 0] = -20.0
    labels = Labels(np.ones((1000, 2), np.float32), np.ones((1000, 2), bool))
    return Verifier(sampler, sees(0), sees(1), logits, labels, (), False)


@pytest.fixture(autouse=True)
def _asks_for_a_hat(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Verifier, "_request", lambda *_: HAT)


def share_right(sampler: Any, seed: int, count: int = 300) -> float:
    """Return the fraction of ``count`` verified drawings that is right."""
    candidates = Candidates(sampler, sampler.labels_for("hat", count, seed), seed)
    images = until_accepted(candidates, lambda images: images[:, 0, 0, 0].astype(float), 0.0, 100).images
    return float(images[:, 0, 0, 1].mean())


def test_promise_counts_labels_that_are_drawn_badly_as_often_as_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of single tries, nine in ten accepted ones are easy, and 94 % right; of the output, half, and 75 %."""
    sampler = HardSmiles()
    assert share_right(sampler, 0) == pytest.approx(0.745, abs=0.08)
    for trial in range(5):
        monkeypatch.setattr(verification, "_SEED", 1000 + trial)
        with raises("promise-unreachable", "a second judge does not see", "hat in 100%"):
            verifier(sampler).calibrate("hat", 0.9, 100)
    granted = verifier(sampler).calibrate("hat", 0.65, 100)
    evidence = granted.rung.evidence[DRAWN]
    assert evidence.accepted == 300 and granted.drawings == evidence.images > 900, "each label has its tries"
    assert evidence.wrong / 300 == pytest.approx(0.255, abs=0.08)
    assert share_right(sampler, 3) >= 0.65


def test_given_up_labels_are_none_of_the_accepted() -> None:
    sampler = HardSmiles()
    evidence = verifier(sampler).calibrate("hat", 0.8, 1).rung.evidence[DRAWN]
    assert evidence.images == 300 and 130 < evidence.accepted < 190, "as with --most-draws 1"


def test_promise_that_real_images_rule_out_costs_no_drawing() -> None:
    sampler = HardSmiles()
    with raises("promise-unreachable", "100 of 1,000 held-out real images wrongly", "--promise below 0.8"):
        verifier(sampler, 900).calibrate("hat", 0.95, 100)
    assert not sampler.drawn


def test_calibration_gives_up_drawings_that_are_hardly_ever_accepted() -> None:
    sampler = HardSmiles()
    sampler.accepted, sampler.right = (0.01, 0.01), (1.0, 1.0)
    with raises("promise-unreachable", "the judge accepts too few"):
        verifier(sampler).calibrate("hat", 0.9, 10_000)
    assert sampler.drawn < 20_000


@pytest.mark.parametrize(("promise", "count"), [(0.5, 300), (0.9, 300), (0.95, 600), (0.99, 3000), (0.999, 5000)])
def test_high_promises_take_more_labels(promise: float, count: int) -> None:
    assert verification._labels_for(promise) == count
