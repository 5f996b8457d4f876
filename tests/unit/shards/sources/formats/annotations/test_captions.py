"""Lists with several captions per image."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.sources.item import Source
from support.errors import raises
from support.source_files import by_id, png_files, scan_source, write_files

FIRST = ("A child in a pink dress, climbing.", "A girl going into a wooden building.")
SECOND = ('A black "dog" and a spotted dog.', "Two dogs on a road.")


def caption_of(source: Source, name: str) -> str | None:
    return by_id(source)[name].caption


@pytest.mark.parametrize(
    ("name", "lines"),
    [
        (
            "captions.txt",
            ["image,caption", f'a.png,"{FIRST[0]}"', f"a.png,{FIRST[1]}", 'b.png,"A black ""dog"" and a spotted dog."',
             f"b.png,{SECOND[1]}"],
        ),
        (
            "results.csv",
            ["image_name| comment_number| comment", f"a.png| 0| {FIRST[0]}", f"a.png| 1| {FIRST[1]}",
             f"b.png| 0| {SECOND[0]}", f"b.png| 1| {SECOND[1]}"],
        ),
        (
            "Flickr8k.token.txt",
            [f"a.png#0\t{FIRST[0]}", f"a.png#1\t{FIRST[1]}", f"b.png#0\t{SECOND[0]}", f"b.png#1\t{SECOND[1]}"],
        ),
        (
            "results_20130124.token",
            [f"a.png#0\t{FIRST[0]}", f"a.png#1\t{FIRST[1]}", f"b.png#0\t{SECOND[0]}", f"b.png#1\t{SECOND[1]}"],
        ),
    ],
)  # fmt: skip
def test_flickr(tmp_path: Path, name: str, lines: list[str]) -> None:
    files = {name: "\n".join([*lines, ""]), "Flickr_8k.trainImages.txt": "a.png\nb.png\n", "readme.txt": "Read me."}
    source = scan_source(write_files(tmp_path, {**files, **png_files("Images/a.png", "Images/b.png")}))
    assert source.kind == "captions"
    assert caption_of(source, "Images/a.png") == FIRST[0]
    assert caption_of(source, "Images/b.png") == SECOND[0]
    assert source.problems.counts() == {"caption-not-first": 2}


def test_lemmatised_captions_are_not_used(tmp_path: Path) -> None:
    files = {
        "Flickr8k.lemma.token.txt": "a.png#0\ta child be in dress\na.png#1\ta girl go into building\n",
        "Flickr8k.token.txt": f"a.png#0\t{FIRST[0]}\na.png#1\t{FIRST[1]}\n",
    }
    source = scan_source(write_files(tmp_path, {**files, **png_files("Images/a.png")}))
    assert caption_of(source, "Images/a.png") == FIRST[0]


def test_karpathy_splits(tmp_path: Path) -> None:
    images = [
        {"filename": "a.png", "sentences": [{"raw": FIRST[0]}, {"raw": FIRST[1]}], "split": "train"},
        {"filename": "c.png", "sentences": [{"raw": SECOND[0]}]},
    ]
    files = {"dataset_flickr8k.json": json.dumps({"images": images, "dataset": "flickr8k"})}
    source = scan_source(write_files(tmp_path, {**files, **png_files("img/a.png", "img/b.png")}))
    assert caption_of(source, "img/a.png") == FIRST[0]
    assert source.problems.counts() == {"caption-not-first": 1, "row-without-image": 1, "image-unlabelled caption": 1}


def test_a_list_of_files_and_classes_is_no_list_of_captions(tmp_path: Path) -> None:
    files = {"train.txt": "a/x.png 0\nb/y.png 1\n", "train.csv": "a/x.png,cat\nb/y.png,dog\n"}
    with raises("ambiguous-table", "--table train.txt", "--table train.csv"):
        scan_source(write_files(tmp_path, {**files, **png_files("a/x.png", "b/y.png")}))
