"""Tables whose cells hold several tags, as people write them: the right schema, and the right labels of images."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shards.packing.labelling import LabelOptions, build_labelling
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
