"""Lists with blanks between an image and its labels: one label of several words, several labels, or a question."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from shards.packing.labels.doubts import find_doubts
from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from shards.sources.text.label_words import Words, read_words
from support.source_files import png_files, scan_source, tags_by_id, write_files


def write_list(folder: Path, labels: Sequence[str], count: int = 30) -> Path:
    """Write images, and a list in which the labels follow each other."""
    lines = "".join(f"images/{at:03}.png {labels[at % len(labels)]}\n" for at in range(count))
    return write_files(folder, png_files(*(f"images/{at:03}.png" for at in range(count))) | {"labels.txt": lines})


def labels_of(source: Source, count: int) -> list[str]:
    """Return the labels of the first images, with commas between them."""
    tags = tags_by_id(source)
    return [", ".join(tags[f"images/{at:03}.png"] or ()) for at in range(count)]


def doubts_of(source: Source) -> list[str]:
    """Return the codes of the doubts about a source."""
    return [doubt.code for doubt in find_doubts(source, build_labelling(source, LabelOptions()).schema)]


@pytest.mark.parametrize(
    "labels",
    [
        ("cat", "polar bear", "owl"),
        ("cat", "cat", "owl", "owl", "red fox"),
        ("polar bear", "red fox"),
        ("polar bear", "brown bear", "cat"),
    ],
)
def test_words_that_are_always_together_are_one_class(tmp_path: Path, labels: Sequence[str]) -> None:
    source = scan_source(write_list(tmp_path, labels))
    assert labels_of(source, len(labels)) == list(labels) and doubts_of(source) == []


@pytest.mark.parametrize(
    "labels",
    [
        ("cat hat scarf", "cat", "dog hat", "owl", "dog scarf", "owl hat"),
        ("cat", "dog", "cat dog", "owl"),
        ("young male smiling", "old female", "young female", "old male smiling"),
    ],
)
def test_words_in_varying_company_are_tags(tmp_path: Path, labels: Sequence[str]) -> None:
    source = scan_source(write_list(tmp_path, labels))
    assert labels_of(source, len(labels)) == [label.replace(" ", ", ") for label in labels]
    assert doubts_of(source) == []


@pytest.mark.parametrize("labels", [("cat", "polar bear", "bear"), ("cat", "dog", "cat hat")])
def test_words_of_which_only_some_stand_alone_are_a_question(tmp_path: Path, labels: Sequence[str]) -> None:
    assert doubts_of(scan_source(write_list(tmp_path, labels))) == ["words-unclear"]


def test_sentences_are_not_taken_apart() -> None:
    lines = [tuple(f"a red fox sits in the snow beside {n}".split()) for n in range(9)]
    assert read_words(lines) == Words.ONE


def test_images_without_labels_in_a_list(tmp_path: Path) -> None:
    source = scan_source(write_list(tmp_path, ("cat", "", "polar bear")))
    assert labels_of(source, 3) == ["cat", "", "polar bear"]


def test_columns_behind_an_image_stay_columns(tmp_path: Path) -> None:
    source = scan_source(write_list(tmp_path, ("blue long", "red short", "blue short", "red long")))
    assert len(source.attributes) == 2
