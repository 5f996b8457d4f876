"""Datasets whose labels are phrases of modifiers and nouns, one per image."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from support.source_files import png_files, scan_source, tags_by_id, write_files

HAIR = ("aqua", "blonde", "blue", "green", "pink", "red")
EYES = ("aqua", "blue", "brown", "red", "yellow")
LENGTH = ("long", "short")
FACES = [(HAIR[i % 6], LENGTH[i % 7 % 2], EYES[i * 3 % 5]) for i in range(60)]


def values_of(source: Source) -> set[tuple[str, ...]]:
    """Return the values of each attribute, as packing infers them."""
    return {attribute.values for attribute in build_labelling(source, LabelOptions()).schema.attributes}


def with_noun(words: tuple[str, ...], noun: str) -> tuple[str, ...]:
    return tuple(f"{word} {noun}" for word in words)


@pytest.mark.parametrize(
    "spell",
    [
        lambda hair, length, eyes: f"{hair} {length} hair and {eyes} eyes",
        lambda hair, length, eyes: f"{length} hair, {hair} hair {eyes} eyes",
        lambda hair, length, eyes: f"{eyes} eyes with {length} {hair} hair",
    ],
)
def test_hair_and_eyes_of_faces(tmp_path: Path, spell: Callable[[str, str, str], str]) -> None:
    rows = "".join(f'{i},"{spell(*face)}"\n' for i, face in enumerate(FACES))
    images = png_files(*(f"faces/{i}.png" for i in range(60)))
    source = scan_source(write_files(tmp_path, {**images, "tags.csv": f"id,tags\n{rows}"}))
    assert values_of(source) == {with_noun(HAIR, "hair"), with_noun(LENGTH, "hair"), with_noun(EYES, "eyes")}
    tags = tags_by_id(source)
    for i, (hair, length, eyes) in enumerate(FACES):
        assert set(tags[f"faces/{i}.png"] or ()) == {f"{hair} hair", f"{length} hair", f"{eyes} eyes"}
    ((key, count),) = source.problems.counts().items()
    assert key in ("phrases-read hair, eyes", "phrases-read eyes, hair") and count == 60


def test_colours_of_hair_and_eyes_without_fillers(tmp_path: Path) -> None:
    texts = {f"{i}.txt": f"{hair} hair {eyes} eyes" for i, (hair, _, eyes) in enumerate(FACES)}
    images = png_files(*(f"{i}.png" for i in range(60)))
    rows = "".join(f"{name.removesuffix('.txt')},{text}\n" for name, text in texts.items())
    table = scan_source(write_files(tmp_path / "table", {**images, "tags.csv": f"id,tags\n{rows}"}))
    assert values_of(table) == {with_noun(HAIR, "hair"), with_noun(EYES, "eyes")}
    assert set(tags_by_id(table)["7.png"] or ()) == {f"{FACES[7][0]} hair", f"{FACES[7][2]} eyes"}


def test_phrases_that_cannot_be_read_are_unknown_and_listed(tmp_path: Path) -> None:
    cells = [f"{hair} hair {eyes} eyes" for hair, _, eyes in FACES]
    cells[3], cells[4] = "to do", "blue"
    rows = "".join(f"{i},{cell}\n" for i, cell in enumerate(cells))
    images = png_files(*(f"{i}.png" for i in range(60)))
    source = scan_source(write_files(tmp_path, {**images, "tags.csv": f"id,tags\n{rows}"}))
    assert (tags_by_id(source)["3.png"], tags_by_id(source)["4.png"]) == (None, None)
    assert source.problems.found["phrase-not-understood"] == ["to do", "blue"]


def test_objects_with_two_modifiers_each(tmp_path: Path) -> None:
    things = [" ".join(words) for words in itertools.product(("large", "small"), ("red", "blue"), ("cube", "ball"))]
    lines = [f"{i},{things[i % 8]} and {things[i * 5 % 8]}\n" for i in range(40)]
    images = png_files(*(f"{i}.png" for i in range(40)))
    source = scan_source(write_files(tmp_path, {**images, "tags.csv": f"id,tags\n{''.join(lines)}"}))
    first, second = things[3], things[15 % 8]
    expected = {f"{word} {thing.split()[2]}" for thing in (first, second) for word in thing.split()[:2]}
    assert set(tags_by_id(source)["3.png"] or ()) == expected
