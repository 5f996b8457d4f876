"""Data sets for the article's open questions: the example's faces, with less said of them, or said in another way."""

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
# How the sentences of the data are built, and others to ask in, by which no picture is described.
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
    """Tags of faces, each like "blue hair, long hair, yellow eyes", in sentences whose forms are drawn by key."""
    draws = rng.bits(rng.key(0, purpose), np.arange(len(tags), dtype=np.int64))
    chosen: list[int] = rng.below(len(forms), draws).tolist()
    words = [[tag.split()[0] for tag in line.split(", ")] for line in tags]
    return [
        forms[form].format(hair=hair, length=length, eyes=eyes)
        for form, (hair, length, eyes) in zip(chosen, words, strict=True)
    ]


def make(folder: Path, count: int, size: int, wanted: Collection[str]) -> None:
    """Draw the faces, and pack the data sets that are not there yet.

    Args:
        folder: gets ``faces``, which are drawn, and a data set of each name.
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
            f"{there.where} holds {len(there):,} faces of {there.size} pixels, not {count:,} of {size}; "
            "ask for those, or give another --out"
        )


def _pack(drawn: Path, out: Path, table: list[Row], size: int) -> None:
    """Pack the pictures under a table; its captions are the labels if it has any."""
    captioned = any(caption for _, _, caption in table)
    labelled = out.with_name("labelled") / "schema.yaml"  # words at the same places, though few pictures name them
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        source = Path(folder)
        shutil.copytree(drawn / "images", source / "images", copy_function=os.link)
        shutil.copy(drawn / "source.json", source)  # the licence
        with (source / "tags.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows([["id", "tags", "caption"], *table])
        asked = Pack(src=source, out=out, size=size, name="faces")
        if captioned:
            asked = replace(asked, labels="caption", text_encoder=ENCODER)
        elif labelled.exists():
            asked = replace(asked, schema=labelled)
        pack(asked)


def _read(path: Path) -> list[Row]:
    with path.open(newline="", encoding="utf-8") as file:
        return [[row["id"], row["tags"], ""] for row in csv.DictReader(file)]


# ---------------------------------------------------------------- what is said of the pictures


def _all(table: list[Row]) -> list[Row]:
    return table


def _tenth(table: list[Row]) -> list[Row]:
    """A tenth of the rows; pictures without one are there, unlabelled."""
    draws = rng.bits(rng.key(0, "a tenth labelled"), np.arange(len(table), dtype=np.int64))
    return [table[row] for row in sorted(np.argsort(draws, kind="stable")[: len(table) // 10].tolist())]


def _half(table: list[Row]) -> list[Row]:
    """Each tag of each row with a probability of a half: an eighth of the pictures is unlabelled, an eighth whole."""
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
