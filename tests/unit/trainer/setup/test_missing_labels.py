"""The hint on options for datasets in which much is unknown."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from shards.dataset.dataset import Dataset
from shards.examples.shapes import draw
from shards.packing.pack import Pack, pack
from trainer import config
from trainer.setup.missing_labels import hint

IMAGES = 24


def make(folder: Path, tags: dict[int, int], schema: Path | None = None) -> Dataset:
    """Return a dataset of shapes with ink and form, of which some images have the first or both tags."""
    (folder / "source" / "images").mkdir(parents=True)
    with (folder / "source" / "tags.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "tags"])
        for number in range(IMAGES):
            image, words = draw(number, 16)
            image.save(folder / "source" / "images" / f"{number:03d}.png")
            if tags.get(number):
                writer.writerow([f"{number:03d}", ", ".join(words.split(", ")[: tags[number]])])
    return pack(Pack(src=folder / "source", out=folder / "data", size=16, workers=1, schema=schema))


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return make(tmp_path_factory.mktemp("few"), dict.fromkeys(range(8), 2))


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("--preset faces32", "--pseudo-labels 0.95 --unlabelled-share 0.5"),
        ("--preset faces32 --unlabelled-share 0.25", "--pseudo-labels 0.95"),
        ("--preset smoke", "--pseudo-labels 0.95 --label-loss 0.5 --unlabelled-share 0.5"),
        ("--conditioning classifier", "--pseudo-labels 0.95 --unlabelled-share 0.5"),
    ],
)
def test_it_names_the_options_that_a_run_lacks(few: Dataset, words: str, named: str) -> None:
    said = hint(config.load(words.split()), few)
    assert said.startswith(f"67% of the labels are unknown; with {named} the discriminator fills in"), said
    assert not hint(config.load([*words.split(), *named.split()]), few), "the run that it asks for needs no hint"


@pytest.mark.parametrize("words", ["--unlabelled-share 0", "--family article", "--conditioning concatenation"])
def test_there_is_none_where_the_options_would_not_help(few: Dataset, words: str) -> None:
    assert hint(config.load(words.split()), few) == ""


def test_there_is_none_if_little_is_unknown(tmp_path: Path) -> None:
    assert hint(config.Config(), make(tmp_path, dict.fromkeys(range(20), 2))) == ""


def test_images_with_some_known_attribute_need_no_share(few: Dataset, tmp_path: Path) -> None:
    tags = dict.fromkeys(range(IMAGES), 1) | dict.fromkeys(range(6), 2)
    said = hint(config.load("--preset faces32".split()), make(tmp_path, tags, few.path / "schema.yaml"))
    assert said.startswith("38% of the labels are unknown; with --pseudo-labels 0.95 the"), said
