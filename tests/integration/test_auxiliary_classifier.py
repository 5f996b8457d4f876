"""Training with an auxiliary classifier in the discriminator: metrics, resuming, learning of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import trainer.generation.sampler
from shards.examples.shapes import INKS
from support.errors import assert_printed
from support.launching import TINY, assert_same_run, make_dataset, metrics, tensors, train

CLASSIFIER = (*TINY, "--conditioning", "classifier")


def test_run_with_a_classifier_resumes_bit_identically(tmp_path: Path) -> None:
    """The preset uses wrong labels, which a classifier does not need: the run leaves them out."""
    data = make_dataset(tmp_path).path
    words = (*CLASSIFIER, "--classifier-weight", 0.5, "--shards", data, "--log-every", 16)
    whole, run = tmp_path / "whole", tmp_path / "run"
    train(*words, "--run", whole, "--total-images", 160)
    for images in (80, 160):
        train(*words, "--run", run, "--total-images", images)
    assert_same_run(run, whole)
    assert any("head.classes.weight" in name for name in tensors(run))
    for row in metrics(run):
        assert row["loss/classes"] > 0 and row["loss/classes_g"] > 0 and "loss/mismatch" not in row
    done = train(*words[:-2], "--run", run, "--mismatch", "real", expect=2)
    assert_printed(done.stderr, "option-conflict", "--mismatch real", "--mismatch none")


@pytest.mark.long
def test_generator_learns_the_colours_of_the_classifier(tmp_path: Path) -> None:
    run = tmp_path / "run"
    train(*CLASSIFIER, "--run", run, "--total-images", 6144, "--mixed-precision", "no")
    rows = metrics(run)
    assert rows[-1]["loss/classes"] < 0.3 * rows[0]["loss/classes"]
    sampler = trainer.generation.sampler.load(run)
    inks = np.array(list(INKS.values()))
    right = []
    for number, name in enumerate(INKS):
        middles = sampler.sample(f"{name} ink", count=32)[:, :, 7:9, 7:9].mean((2, 3))  # inside every shape
        nearest = np.abs(middles[:, None] - inks).sum(2).argmin(1)
        right.append((nearest == number).mean())
    assert np.mean(right) > 0.6, f"{right}, by chance 0.25"
