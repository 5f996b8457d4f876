"""`make demo`: the trained generator draws what its label says."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import trainer.generation.sampler
from shards.core import cli
from shards.dataset.dataset import Dataset
from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import sample_labels
from support.errors import raises
from support.launching import ROOT, make_dataset
from trainer import config, demo
from trainer.evaluation.judge.judge import judge_of
from trainer.models import architecture_of
from trainer.networks import build

LENGTH = "hair (long/short/tied)"
ALL = {"hair": 0.98, LENGTH: 0.85, "eyes": 0.85}


@pytest.mark.parametrize(
    ("words", "length"),
    [
        ("", "--minutes 10"),
        ("--minutes 0.5", "--minutes 0.5"),
        ("--total-images 640", "--total-images 640"),
    ],
)
def test_the_demo_trains_for_ten_minutes_unless_told_otherwise(words: str, length: str) -> None:
    options = cli.parse(demo.DemoOptions, words.split(), command="cgan demo")
    (name, value), asked = options.length, length.split()
    assert (name, float(str(value))) == (asked[0], float(asked[1]))


@pytest.mark.parametrize("size", demo.SIZES)
def test_each_size_has_a_preset_whose_networks_fit(size: int) -> None:
    preset = demo.preset_for(size)
    assert preset == {64: "faces64", 96: "faces96"}.get(size, "faces32")
    with torch.device("meta"):
        build(architecture_of(config.load(["--preset", preset]).network, ImageShape.of(size), (3,)))


def test_a_size_without_networks_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with raises("invalid-value", "--size", "96, 128"):
        demo.main(["--size", "100", "--folder", str(tmp_path / "demo")])
    assert not (tmp_path / "demo").exists()


def test_a_second_call_keeps_the_size_and_the_preset(tmp_path: Path) -> None:
    make_dataset(tmp_path / "made", size=64).path.rename(tmp_path / "data")

    def parse(*words: str) -> demo.DemoOptions:
        return cli.parse(demo.DemoOptions, words, command="cgan demo")

    first = parse("--folder", str(tmp_path), "--size", "64")
    again = parse(*first.same, "--minutes", "30")
    assert demo.size_of(again) == demo.size_of(first) == 64
    assert parse(*parse("--preset", "smoke").same).preset == "smoke"
    with raises("wrong-dataset", "--size 32", "64 pixels"):
        demo.size_of(parse("--folder", str(tmp_path), "--size", "32"))


def test_another_dataset_in_the_folder_is_refused_before_training(tmp_path: Path) -> None:
    make_dataset(tmp_path / "made", size=32).path.rename(tmp_path / "data")
    (tmp_path / "faces").mkdir()
    (tmp_path / "faces" / "tags.csv").touch()
    with raises("wrong-dataset", tmp_path / "data", "hair", "--folder"):
        demo.main(["--folder", str(tmp_path), "--total-images", "640"])
    assert not (tmp_path / "run").exists()


def test_two_lengths_of_the_demo_are_one_sentence() -> None:
    with raises("option-conflict", "--minutes", "--total-images"):
        cli.parse(demo.DemoOptions, ["--minutes", "3", "--total-images", "640"], command="cgan demo")


@pytest.mark.long
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("images", "least"),  # the colour of the hair is learned first, that of the eyes last
    [(5_000, {"hair": 0.60, LENGTH: 0.50, "eyes": 0.14}), pytest.param(45_000, ALL, marks=pytest.mark.exhaustive)],
)
def test_the_demo_draws_what_its_labels_say(tmp_path: Path, images: int, least: dict[str, float]) -> None:
    """With less than what `make demo` trains: a slow machine sees 50 images in a second next to other tests."""
    folder = tmp_path / "demo"
    command = [sys.executable, "-m", "trainer", "demo", "--folder", str(folder), "--total-images", str(images)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert (folder / "run" / "hair-colours.png").exists()

    dataset = Dataset.open(folder / "data")
    judge = judge_of(dataset, cache=tmp_path / "judges")
    real = {attribute.name: attribute.tally.fraction for attribute in judge.accuracy.attributes}
    assert real["hair"] > 0.98 and min(real.values()) > 0.93, "the judge is not accurate enough"

    sampler = trainer.generation.sampler.load(folder / "run")
    asked = sample_labels(dataset.labels, dataset.known, 500, 1, "what the judge asks for")
    drawn = sampler.generate(asked, seed=1)
    found = judge.label_accuracy(drawn, *asked)
    assert not [attribute.doubt for attribute in found.attributes if attribute.doubt]
    shown = {attribute.name: attribute.tally.fraction for attribute in found.attributes}
    rows = [json.loads(line) for line in (folder / "run" / "metrics.jsonl").read_text().splitlines()]
    print(f"accuracy on real images {real}, on generated images {shown}, {rows[-1]['images_seen']} images seen")
    assert not {name: shown[name] for name, bound in least.items() if shown[name] < bound}
    assert len(np.unique(drawn[:100], axis=0)) == 100, "the generator draws duplicates"
