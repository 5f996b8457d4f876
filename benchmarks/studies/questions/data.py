"""Datasets for the article's open questions: the example faces with fewer or differently worded labels."""

from __future__ import annotations

import csv
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from shards.core import rng
from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.examples.faces import Faces, faces
from shards.packing.pack import Pack, pack

ENCODER = "minilm"
# Forms of the training captions, and other forms for prompts that describe no training image.
SENTENCES = (
    "a person with {length} {hair} hair and {eyes} eyes",
    "{eyes} eyes and {length} {hair} hair",
    "a face with {eyes} eyes; its {hair} hair is {length}",
    "somebody who wears {length} {hair} hair and looks at you with {eyes} eyes",
    "a drawing of a character whose hair is {hair} and {length} and whose eyes are {eyes}",
    "someone with {hair} hair, {length}, and {eyes} eyes",
)
OTHER_SENTENCES = (
    "portrait of a figure with eyes of {eyes} and {hair} hair worn {length}",
    "the hair: {hair}, {length}; the eyes: {eyes}",
    "I would like to see {hair} hair, and it should be {length}, with {eyes} eyes",
)

Row = list[str]  # id, tags, caption


def sentences(tags: Sequence[str], forms: Sequence[str], purpose: str) -> list[str]:
    """Return tags of faces ("blue hair, long hair, yellow eyes", …) as sentences whose forms are drawn by key."""
    draws = rng.bits(rng.key(0, purpose), np.arange(len(tags), dtype=np.int64))
    chosen: list[int] = rng.below(len(forms), draws).tolist()
    words = [[tag.split()[0] for tag in line.split(", ")] for line in tags]
    return [
        forms[form].format(hair=hair, length=length, eyes=eyes)
        for form, (hair, length, eyes) in zip(chosen, words, strict=True)
    ]


def make(folder: Path, count: int, size: int, wanted: Collection[str]) -> None:
    """Draw the faces, and pack the datasets that do not exist.

    Args:
        folder: gets ``faces``, which are drawn, and one dataset per name.
        count: faces to draw; size: their side in pixels.
        wanted: names of `DATA_SETS`; "labelled" is made in any case.

    Raises:
        UserError, Failure: faces cannot be drawn or packed, or other ones are there; the sentence says why.
    """
    drawn = folder / "faces"
    if not drawn.exists():
        faces(Faces(out=drawn, count=count, size=size))
    for name, say in DATA_SETS.items():
        if (name == "labelled" or name in wanted) and not (folder / name).exists():
            _pack(drawn, folder / name, say(_read(drawn / "tags.csv")), size)
    there = Dataset.open(folder / "labelled")
    if (len(there), there.size) != (count, size):
        raise UserError(
            "wrong-dataset",
            f"{there.where} holds {len(there):,} faces of {there.size} pixels, not {count:,} of {size}; "
            "use those numbers, or give another --out",
        )


def _pack(drawn: Path, out: Path, table: list[Row], size: int) -> None:
    """Pack the images with a table; its captions are the labels if it has any."""
    captioned = any(caption for _, _, caption in table)
    labelled = out.with_name("labelled") / "schema.yaml"  # the same label entries, although few images name the words
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        source = Path(folder)
        shutil.copytree(drawn / "images", source / "images", copy_function=os.link)
        shutil.copy(drawn / "source.json", source)  # the licence
        with (source / "tags.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["id", "tags", "caption"], *table])
        options = Pack(src=source, out=out, size=size, name="faces")
        if captioned:
            options = replace(options, labels="caption", text_encoder=ENCODER)
        elif labelled.exists():
            options = replace(options, schema=labelled)
        pack(options)


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [[row["id"], row["tags"], ""] for row in csv.DictReader(file)]


# ---------------------------------------------------------------- tables


def _all(table: list[Row]) -> list[Row]:
    return table


def _tenth(table: list[Row]) -> list[Row]:
    """Return a tenth of the rows; images without a row are unlabelled."""
    draws = rng.bits(rng.key(0, "a tenth labelled"), np.arange(len(table), dtype=np.int64))
    return [table[row] for row in sorted(np.argsort(draws, kind="stable")[: len(table) // 10].tolist())]


def _half(table: list[Row]) -> list[Row]:
    """Keep each tag with probability 1/2: an eighth of the images is unlabelled, an eighth fully labelled."""
    numbers = np.arange(len(table), dtype=np.int64)
    key = rng.key(0, "half of what is said")
    said = []
    for number, (name, tags, _) in zip(numbers, table, strict=True):
        kept = [tag for place, tag in enumerate(tags.split(", ")) if rng.below(2, rng.bits(key, number, place))]
        said.append([name, ", ".join(kept), ""])
    return said


def _captions(table: list[Row]) -> list[Row]:
    texts = sentences([tags for _, tags, _ in table], SENTENCES, "sentence of a picture")
    return [[name, tags, text] for (name, tags, _), text in zip(table, texts, strict=True)]


DATA_SETS: dict[str, Callable[[list[Row]], list[Row]]] = {
    "labelled": _all,
    "tenth": _tenth,
    "half": _half,
    "captions": _captions,
}
