"""The benchmark of the open questions: its data sets say what they claim, its figures are right, and it runs."""

from __future__ import annotations

import json
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import open_questions
import pytest
from questions import data, figures, judging, plot

from shards.dataset.dataset import Dataset
from shards.examples.faces import EYES, HAIR
from support import ROOT
from trainer import config as configuration

TABLE = [
    [f"{n:06d}", f"{hair} hair, {('long', 'short', 'tied')[n % 3]} hair, {eyes} eyes", ""]
    for n, (hair, eyes) in enumerate((hair, eyes) for hair in HAIR for eyes in EYES for _ in range(10))
]


def test_every_question_asks_for_variants_that_the_trainer_understands() -> None:
    asked = {name for variants in open_questions.QUESTIONS.values() for name in variants}
    assert asked == set(open_questions.VARIANTS)
    for name, variant in open_questions.VARIANTS.items():
        assert variant.data in data.DATA_SETS
        if name != "classifier" or "classifier" in configuration.usage("x"):
            configuration.load(["--preset", "faces32", *variant.words.split()])


def test_a_tenth_is_labelled_as_before() -> None:
    kept = data.DATA_SETS["tenth"](TABLE)
    assert len(kept) == len(TABLE) // 10 and all(row in TABLE for row in kept)
    assert len({row[0] for row in kept}) == len(kept)


def test_half_of_everything_is_known() -> None:
    rows = data.DATA_SETS["half"](TABLE)
    assert [row[0] for row in rows] == [row[0] for row in TABLE]
    said = [set(filter(None, tags.split(", "))) for _, tags, _ in rows]
    assert all(words <= set(tags.split(", ")) for words, (_, tags, _) in zip(said, TABLE, strict=True))
    for kind in ("eyes", "hair"):
        of = 2 if kind == "hair" else 1  # colour and length
        share = sum(word.endswith(kind) for words in said for word in words) / len(TABLE) / of
        assert abs(share - 0.5) < 0.04
    assert abs(sum(not words for words in said) / len(TABLE) - 1 / 8) < 0.04


def test_sentences_say_what_the_tags_say() -> None:
    rows = data.DATA_SETS["captions"](TABLE)
    for _, tags, text in rows:
        hair, length, eyes = (tag.split()[0] for tag in tags.split(", "))
        assert {hair, length, eyes} <= set(text.replace(";", "").replace(",", "").split())
    assert len({text for _, _, text in rows}) > 360, "several sentences for one set of tags"
    assert not set(data.SENTENCES) & set(data.OTHER_SENTENCES)


def test_pairs_are_other_images_of_the_same_label() -> None:
    labels = np.eye(5, dtype=np.float32)[np.array([0, 1, 1, 2, 2, 2, 3, 3, 4])]
    rows, partners = judging.pairs(labels, 50)
    assert len(rows) == len(partners) == 50 and (rows != partners).all()
    assert (labels[rows] == labels[partners]).all()
    assert set(rows) == {1, 2, 3, 4, 5, 6, 7}, "labels of a single image have no pair"


def run_of(*rights: float) -> figures.Run:
    """A run with a checkpoint every 1,000 images."""
    return {
        1_000 * number: {"right: hair": right, "variety": 2 * right} for number, right in enumerate(rights, start=1)
    }


ALIKE = {"one": {0: run_of(0.1, 0.2), 1: run_of(0.3, 0.5, 0.9), 2: run_of(0.2, 0.9)}, "<other>": {0: run_of(0.4, 0.7)}}


def test_a_table_has_medians_and_ranges_at_the_last_common_checkpoint() -> None:
    assert list(figures.table(ALIKE, {"hair": 0.99})) == [
        "| 2,000 images seen | seeds | hair, % | variety |",
        "|---|---|---|---|",
        "| one | 3 | 50.0 (20.0–90.0) | 1.00 (0.40–1.80) |",
        "| <other> | 1 | 70.0 (70.0–70.0) | 1.40 (1.40–1.40) |",
        "| *real images* |  | 99.0 | 1 |",
    ]


def test_a_figure_that_some_variants_lack_is_a_dash() -> None:
    asked = {seen: row | {"right, asked in other sentences: hair": 0.25} for seen, row in run_of(0.5).items()}
    lines = list(figures.table({"words": {0: run_of(0.4)}, "sentences": {0: asked}}, {"hair": 1.0}))
    assert lines[0] == "| 1,000 images seen | seeds | hair, % | hair, in other sentences, % | variety |"
    assert lines[2] == "| words | 1 | 40.0 (40.0–40.0) | – | 0.80 (0.80–0.80) |"
    assert "25.0 (25.0–25.0)" in lines[3]


def test_a_plot_has_a_panel_a_figure_and_a_line_a_variant() -> None:
    svg = ElementTree.fromstring(plot.plot("Hair & more", ALIKE, {"hair": 0.99}))
    space = "{http://www.w3.org/2000/svg}"
    assert svg.findtext(f"{space}title") == "Hair & more"
    assert len(svg.findall(f".//{space}polyline")) == 2 * 2
    said = [text.text for text in svg.iter(f"{space}text")]
    assert "hair: right, %" in said and "<other>" in said
    points = svg.findall(f".//{space}polyline")[0].attrib["points"].split()
    assert len(points) == 2, "as far as all seeds have come"


@pytest.mark.exhaustive
def test_the_benchmark_goes_on_where_it_was(tmp_path: Path) -> None:
    pytest.importorskip("dicebear", reason="needs the demo extra")

    def run(*words: str, expect: int = 0) -> list[str]:
        command = [sys.executable, str(ROOT / "benchmarks" / "studies" / "open_questions.py"), "--out", str(tmp_path)]
        scale = "--questions unlabelled --preset smoke --size 16 --faces 400 --every 64 --count 20 --jobs 1"
        done = subprocess.run([*command, *scale.split(), *words], capture_output=True, text=True, check=False)
        assert done.returncode == expect, done.stderr
        return (done.stderr if expect else done.stdout).splitlines()

    few = ["--images", "128", "--leave-out", "half,tenth-quota,tenth"]
    said = run(*few, "--seeds", "1")
    assert [line for line in said if line.startswith("training")] == [
        "training base-0",
        "training tenth-alone-0",
        "training tenth-pseudo-0",
    ]
    tenth = Dataset.open(tmp_path / "data" / "tenth")
    assert tenth.known.any(axis=1).sum() == 40 and len(tenth) == 400
    assert tenth.schema == Dataset.open(tmp_path / "data" / "labelled").schema

    said = run(*few, "--seeds", "2")
    assert [line for line in said if line.startswith("training")] == [
        "training base-1",
        "training tenth-alone-1",
        "training tenth-pseudo-1",
    ]
    found = json.loads((tmp_path / "results.json").read_text())
    assert set(found["runs"]) == {"base", "tenth-alone", "tenth-pseudo"}
    assert all(list(seeds) == ["0", "1"] for seeds in found["runs"].values())
    row = found["runs"]["tenth-pseudo"]["1"]["128"]
    assert set(row) == {*(f"right: {name}" for name in found["judge on real images"]), "variety"}
    assert all(0 <= value <= 1 for name, value in row.items() if name != "variety") and row["variety"] > 0
    assert "unlabelled" in said and (tmp_path / "unlabelled.svg").read_text().startswith("<svg")

    (sentence,) = run(*few, "--faces", "500", expect=2)
    assert "holds 400 faces of 16 pixels, not 500 of 16" in sentence
