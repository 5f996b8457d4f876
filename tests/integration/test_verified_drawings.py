"""Verified drawings of a run that has learned its words: over twenty seeds a second judge sees what was promised."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trainer
from shards.dataset.dataset import Dataset
from support.errors import raises
from support.launching import TINY, make_dataset, train
from trainer.evaluation.judge.judge import SECOND, judge_of
from trainer.generation.sampler import load
from trainer.sampling.candidates import in_blocks
from trainer.sampling.drawings import Choice
from trainer.sampling.reading import read
from trainer.sampling.verification import Verifier

SEEDS, COUNT = 20, 16


def shares_right(run: Path, data: Dataset, phrase: str, promise: float) -> list[float]:
    """Return for each seed the fraction of the accepted drawings in which the second judge sees every word.

    It has another seed, split and architecture than the first. On real images of these shapes it makes no mistake, so
    what it does not see is the generator's fault.
    """
    sampler = load(run, device="cpu")
    choice = Choice(sampler, Verifier.open(sampler, run, str(data.path), progress=False), promise)
    calibration = choice.calibrate(phrase)
    assert calibration is not None
    request, other = calibration.request, judge_of(data, device="cpu", progress=False, **SECOND)
    shares = []
    for seed in range(SEEDS):
        chosen = choice.choose(sampler.labels_for(phrase, COUNT, seed), seed, calibration)
        assert len(chosen.rows) == COUNT
        seen = read(request.schema, request.attributes, in_blocks(other.logits, chosen.images))
        shares.append(float(request.shown(seen).mean()))
    return shares


@pytest.mark.long
def test_second_judge_sees_the_promised_share_over_twenty_seeds(tmp_path: Path) -> None:
    data, run = make_dataset(tmp_path, 1200), tmp_path / "run"
    words = ("--label-loss", "0.5", "--checkpoint-every", 4000, "--shards", data.path, "--run", run)
    train(*TINY, *words, "--total-images", 4000)
    with raises("promise-unreachable", "a second judge does not see", "red ink"):
        trainer.sample(run, "red ink, round shape", verified=True, device="cpu")
    train(*TINY, *words, "--total-images", 12000)
    shares = shares_right(run, data, "red ink, round shape", 0.9)
    assert np.mean(shares) >= 0.9, shares
