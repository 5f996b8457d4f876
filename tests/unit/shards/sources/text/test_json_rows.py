"""Rows are found in every common shape of JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest

from shards.core.problems import Problems
from shards.sources.text.json_rows import open_json_rows
from support.errors import raises

ROWS = [{"file_name": "1.png", "tags": ["a", "b"]}, {"file_name": "2.png", "tags": ["c"]}, {"file_name": "3.png"}]


def rows(value: Any, name: str = "labels.json", problems: Problems | None = None) -> list[dict[str, Any]]:
    text = value if isinstance(value, str) else json.dumps(value)
    found = open_json_rows(name, text.encode(), is_image_name=lambda cell: cell.endswith(".png"), problems=problems)
    listed = [row for _, row in found.dicts()]
    assert {key for row in listed for key in row} == set(found.columns)
    return listed


@pytest.mark.parametrize("key", ["rows", "data", "images", "annotations", "items"])
def test_list_of_objects_may_be_in_an_object(key: str) -> None:
    assert rows(ROWS) == ROWS
    assert rows({"version": 1, key: ROWS}) == ROWS


def test_lines_of_objects_are_known_by_ending_and_by_content() -> None:
    text = "\n\n".join(map(json.dumps, ROWS)) + "\n"
    for name in ("labels.jsonl", "labels.ndjson", "labels.json"):
        found = open_json_rows(name, text.encode())
        assert [line for line, _ in found.dicts()] == [1, 3, 5]
        assert [row for _, row in found.dicts()] == ROWS


def test_list_named_like_lines_is_read() -> None:
    assert rows(ROWS, "labels.jsonl") == ROWS


def test_pandas_shapes_are_read() -> None:
    table = [{"id": f"{n}.png", "hair": "red"} for n in range(3)]
    assert rows({"id": {str(n): f"{n}.png" for n in range(3)}, "hair": {str(n): "red" for n in range(3)}}) == table
    assert rows({"id": [row["id"] for row in table], "hair": ["red"] * 3}) == table
    assert rows({"columns": ["id", "hair"], "index": [0, 1, 2], "data": [list(row.values()) for row in table]}) == table
    assert rows({str(n): row for n, row in enumerate(table)}) == [{"key": str(n), **row} for n, row in enumerate(table)]


def test_objects_from_image_to_labels_are_read() -> None:
    assert rows({"1.png": ["a", "b"], "2.png": ["c", "d"]}) == [
        {"id": "1.png", "tags": ["a", "b"]},
        {"id": "2.png", "tags": ["c", "d"]},
    ]
    assert rows({"1.png": "cat", "2.png": "dog"})[1] == {"id": "2.png", "label": "dog"}
    assert rows({"1.png": {"hair": "red"}, "2.png": {"hair": "blue"}})[0] == {"id": "1.png", "hair": "red"}


def test_rows_of_a_viewer_are_unwrapped() -> None:
    assert rows({"rows": [{"row_idx": n, "row": row, "truncated_cells": []} for n, row in enumerate(ROWS)]}) == ROWS


def test_bad_lines_and_entries_are_counted() -> None:
    problems = Problems()
    assert rows('{"id": "1.png"}\n{"id": \n[1]\n{"id": "2.png"}\n', "a.jsonl", problems) == [
        {"id": "1.png"},
        {"id": "2.png"},
    ]
    assert rows([ROWS[0], 7, None], problems=problems) == [ROWS[0]]
    assert problems.counts() == {"line-unreadable": 4}


def test_repeated_keys_are_counted() -> None:
    problems = Problems()
    rows('{"1.png": "cat", "1.png": "dog"}', problems=problems)
    assert problems.counts() == {"json-key-repeated": 1}


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("7", "json-without-rows"),
        ("{}", "json-without-rows"),
        ("[]", "json-without-rows"),
        ('{"learning_rate": 0.1}', "json-without-rows"),
        ('{"images": [{"id": 1}], "annotations": [{"id": 1}]}', "json-shape-unclear"),
        ("[" * 100_000, "json-damaged"),
        ('[{"id": 1}', "json-damaged"),
    ],
)
def test_other_json_is_named_in_one_sentence(text: str, code: str) -> None:
    with raises(code, "labels.json"):
        rows(text)


@pytest.mark.parametrize("name", ["emoji.json", "emoji.jsonl"])
def test_images_within_the_row_of_another_are_rows(name: str) -> None:
    """The shape of the emoji-datasource packages, whose skin tones are within the row of the yellow emoji."""
    wave = {"image": "wave.png", "kind": "hand", "old": True}
    skins = {"1F3FB": {"image": "wave-1.png", "old": False}, "1F3FC": {"image": "wave-2.png", "old": False}}
    other = {"image": "cat.png", "kind": "animal", "skins": {}}
    value = [wave | {"skins": skins}, other]
    text = "\n".join(map(json.dumps, value)) if name.endswith("l") else json.dumps(value)
    inner = [
        {"image": f"wave-{n}.png", "kind": "hand", "old": False, "skins": f"1F3F{c}"} for n, c in ((1, "B"), (2, "C"))
    ]
    assert rows(text, name) == [wave, *inner, {"image": "cat.png", "kind": "animal"}]


def test_images_within_a_list_of_another_inherit_what_they_do_not_say() -> None:
    value = [{"file": "a.png", "breed": "pug", "more": [{"file": "b.png"}, {"file": "c.png", "breed": "mops"}]}]
    assert rows(value) == [
        {"file": "a.png", "breed": "pug"},
        {"file": "b.png", "breed": "pug"},
        {"file": "c.png", "breed": "mops"},
    ]


def test_images_within_another_do_not_have_its_name() -> None:
    outer = [{"file": f"{n}.png", "name": f"flag: {n}", "kind": "ab"[n % 2]} for n in range(20)]
    assert rows([outer[0] | {"more": [{"file": "x.png"}]}, *outer[1:]])[1] == {"file": "x.png", "kind": "a"}


@pytest.mark.parametrize(
    "inner",
    [
        [{"id": "b.png", "author": "Ann"}],  # says something that rows do not
        [{"id": "b", "tag": "x"}],  # no file of that name
        [{"tag": "x"}],
        ["b.png"],
        {"id": "b.png"},
    ],
)
def test_objects_that_are_no_images_stay_as_they_are(inner: Any) -> None:
    value = [{"id": "a.png", "tag": "y", "objects": inner}]
    assert rows(value) == value
