"""Tables whose cells hold several tags, as people write them: the right schema, and the right labels of images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from shards.packing.labels.doubts import find_doubts
from shards.packing.labels.labelling import LabelOptions, build_labelling
from shards.sources.item import Source
from support.source_files import png_files, scan_source, tags_by_id, write_files

HAIR = ("blue hair", "red hair", "green hair")
LENGTH = ("long hair", "short hair")


def tags_of(number: int) -> list[str]:
    """Return the tags of an image: one hair colour, one length, a smile or none."""
    return [HAIR[number % 3], LENGTH[number // 3 % 2], *(["smile"] if number % 4 < 2 else [])]


def table(header: str, rows: list[list[str]]) -> str:
    out = io.StringIO()
    csv.writer(out).writerows([header.split(","), *rows])
    return out.getvalue()


def schema_of(source: Source) -> dict[str, tuple[str, ...]]:
    """Return attribute → its values, as packing infers them."""
    schema = build_labelling(source, LabelOptions()).schema
    return {attribute.name: attribute.values for attribute in schema.attributes}


def assert_hair_and_smile(source: Source) -> None:
    assert set(schema_of(source).values()) == {tuple(sorted(HAIR)), tuple(sorted(LENGTH)), ("smile",)}
    tags = tags_by_id(source)
    assert {id: set(found or ()) for id, found in tags.items()} == {f"{i:02}.png": set(tags_of(i)) for i in range(24)}


@pytest.mark.parametrize("spell", [str, json.dumps, "|".join, "; ".join, "/".join, "+".join, "，".join, "、".join])
@pytest.mark.parametrize("name", ["tags.csv", "metadata.csv"])
def test_table_of_tags_in_any_spelling(tmp_path: Path, name: str, spell: Callable[[list[str]], str]) -> None:
    images = [f"{i:02}.png" for i in range(24)]
    header = "id,tags" if name == "tags.csv" else "file_name,tags"
    content = table(header, [[image, spell(tags_of(i))] for i, image in enumerate(images)])
    assert_hair_and_smile(scan_source(write_files(tmp_path, {**png_files(*images), name: content})))


def test_labels_that_are_lists_become_tags(tmp_path: Path) -> None:
    images = [f"{i:02}.png" for i in range(24)]
    content = table("file_name,label", [[image, "|".join(tags_of(i))] for i, image in enumerate(images)])
    source = scan_source(write_files(tmp_path, {**png_files(*images), "metadata.csv": content}))
    assert_hair_and_smile(source)
    assert source.problems.counts() == {"tags-split '|'": 24}


def test_choices_of_an_annotation_tool_become_tags(tmp_path: Path) -> None:
    images = [f"{i:02}.png" for i in range(24)]
    lines = [json.dumps({"file_name": image, "label": {"choices": tags_of(i)}}) for i, image in enumerate(images)]
    source = scan_source(write_files(tmp_path, {**png_files(*images), "metadata.jsonl": "\n".join(lines)}))
    assert_hair_and_smile(source)


def test_counts_after_tags_are_left_out_and_said(tmp_path: Path) -> None:
    images = [f"{i:02}.png" for i in range(24)]
    rows = [[image, "\t".join(f"{tag}:{7 * i + 3}" for tag in tags_of(i))] for i, image in enumerate(images)]
    source = scan_source(write_files(tmp_path, {**png_files(*images), "tags.csv": table("id,tags", rows)}))
    assert_hair_and_smile(source)
    assert source.problems.counts()["tags-weighted"] == sum(len(tags_of(i)) for i in range(24))


FOREST = (
    "clear primary,haze agriculture water,cloudy primary road,partly_cloudy primary agriculture,haze primary,cloudy,"
    "clear agriculture water,clear primary road water,clear habitation primary"
).split(",")
THINGS = "golden retriever,golden eagle,black footed albatross,sooty albatross,apple pie,baby back ribs,cat".split(",")
LEAVES = "scab,rust,complex,healthy,mildew,scab rust,rust scab complex,mildew complex,complex rust".split(",")


def labelled(folder: Path, column: str, cells: Sequence[str]) -> Source:
    """Scan 36 images with the given cells, one after another, in a column."""
    images = [f"{i:02}.png" for i in range(36)]
    rows = [[image, cells[i % len(cells)]] for i, image in enumerate(images)]
    return scan_source(write_files(folder, {**png_files(*images), "train.csv": table(f"image_name,{column}", rows)}))


def doubts_of(source: Source) -> list[str]:
    return [doubt.code for doubt in find_doubts(source, build_labelling(source, LabelOptions()).schema)]


@pytest.mark.parametrize("sign", [";", "|"])
@pytest.mark.parametrize("column", ["labels", "label", "Finding"])
def test_few_different_lists_in_a_column_of_labels(tmp_path: Path, column: str, sign: str) -> None:
    cells = [cell.replace(";", sign) for cell in ("cat;outdoor", "dog", "dog;indoor;night", "cat;night")]
    source = labelled(tmp_path, column, cells)
    assert tags_by_id(source)["02.png"] == ("dog", "indoor", "night")
    assert {value for values in schema_of(source).values() for value in values} == {
        *"cat dog indoor night outdoor".split()
    }
    assert source.problems.counts() == {f"tags-split '{sign}'": 27}


def test_tags_separated_by_blanks(tmp_path: Path) -> None:
    source = labelled(tmp_path, "tags", FOREST)
    assert tags_by_id(source)["01.png"] == ("haze", "agriculture", "water")
    assert ("primary",) in schema_of(source).values()
    assert source.problems.counts() == {"tags-split-at-blanks": 32}


def test_labels_that_combine_single_labels_with_blanks(tmp_path: Path) -> None:
    source = labelled(tmp_path, "labels", LEAVES)
    assert tags_by_id(source)["06.png"] == ("rust", "scab", "complex")


@pytest.mark.parametrize("column", ["tags", "labels"])
def test_names_of_several_words_stay_whole(tmp_path: Path, column: str) -> None:
    source = labelled(tmp_path, column, THINGS)
    assert tags_by_id(source)["02.png"] == ("black footed albatross",)
    assert not doubts_of(source)


def test_words_that_may_be_a_list_are_doubted_in_a_column_of_classes(tmp_path: Path) -> None:
    assert doubts_of(labelled(tmp_path, "label", FOREST)) == ["values-joined"]


@pytest.mark.parametrize("sign", [" ", ";", "|"])
@pytest.mark.parametrize("column", ["Target", "labels", "tags"])
def test_numbers_of_several_classes_become_tags(tmp_path: Path, column: str, sign: str) -> None:
    source = labelled(tmp_path, column, [f"16{sign}0", f"7{sign}1", "0", "25"])
    assert [tags_by_id(source)[f"{i:02}.png"] for i in range(4)] == [("16", "0"), ("7", "1"), ("0",), ("25",)]


def test_pairs_of_numbers_are_doubted(tmp_path: Path) -> None:
    assert doubts_of(labelled(tmp_path, "Target", ["16 0", "7 0", "16 7", "25 0"])) == ["values-joined"]
