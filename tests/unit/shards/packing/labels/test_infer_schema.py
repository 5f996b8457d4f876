"""Inferring a schema from rows of tags."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core import rng
from shards.dataset.schema import Attribute, Schema
from shards.packing.labels.infer_schema import infer_schema
from support.errors import raises

COLOURS = ("aqua", "black", "blonde", "blue", "brown", "gray", "green", "orange", "pink", "purple", "red", "white")
LENGTHS = ("long", "short", "tied")
EYES = ("amber", "blue", "brown", "green", "red", "yellow")


def draw(number: int, channel: int, limit: int) -> int:
    return int(rng.below(limit, rng.bits(rng.key(0, "test rows"), number, channel)))


def faces(count: int, dirty: float = 0.0) -> list[list[str]]:
    """Rows with a hair colour, a hair length, an eye colour and some tags; a share has a second hair colour."""
    rows = []
    for i in range(count):
        row = [f"{COLOURS[draw(i, 0, 12)]} hair", f"{LENGTHS[draw(i, 1, 3)]} hair", f"{EYES[draw(i, 2, 6)]} eyes"]
        row += ["glasses"] * (draw(i, 3, 10) == 0) + ["messy hair"] * (draw(i, 4, 8) == 0)
        row += [f"{COLOURS[draw(i, 6, 12)]} hair"] * (draw(i, 5, 1000) < 1000 * dirty)
        rows.append(row)
    return rows


def sets(schema: Schema) -> set[frozenset[str]]:
    return {frozenset(a.values) for a in schema.attributes if a.kind == "exclusive"}


def named(noun: str, words: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{word} {noun}" for word in words)


@pytest.mark.parametrize("count", [60, 400, 3000])
def test_colours_lengths_and_eyes_become_three_attributes(count: int) -> None:
    schema = infer_schema(faces(count))
    assert sets(schema) == {named("hair", COLOURS), named("hair", LENGTHS), named("eyes", EYES)}
    assert [a.name for a in schema.attributes] == ["eyes", "hair", "hair (long/short/tied)", "glasses", "messy hair"]


@pytest.mark.parametrize("dirty", [0.02, 0.05])
def test_a_few_rows_with_two_colours_do_not_split_them(dirty: float) -> None:
    assert named("hair", COLOURS) in sets(infer_schema(faces(3000, dirty)))


def test_rare_tags_join_the_set_that_they_exclude() -> None:
    rows = faces(3000)
    for i, (place, tag) in {5: (0, "teal hair"), 9: (0, "teal hair"), 77: (1, "shaved hair")}.items():
        rows[i][place] = tag
    assert sets(infer_schema(rows)) == {
        named("hair", (*COLOURS, "teal")),
        named("hair", (*LENGTHS, "shaved")),
        named("eyes", EYES),
    }


def test_many_values_in_two_sets_are_told_apart() -> None:
    rows = [[f"c{draw(i, 0, 60)} hair", f"l{draw(i, 1, 60)} hair"] for i in range(3000)]
    assert sets(infer_schema(rows)) == {
        frozenset(f"c{i} hair" for i in range(60)),
        frozenset(f"l{i} hair" for i in range(60)),
    }


def test_the_smallest_cross_of_two_attributes() -> None:
    rows = [[f"{c} hair", f"{length} hair"] for c, length in itertools.product(("blue", "red"), ("long", "short"))]
    assert sets(infer_schema(rows)) == {named("hair", ("blue", "red")), named("hair", ("long", "short"))}


def test_tags_that_stand_together_stay_independent() -> None:
    rows = [["left sock", "right sock"], ["left sock"], ["right sock"], ["left sock", "right sock"], ["bare feet"]]
    schema = infer_schema(rows)
    assert {(a.name, a.kind) for a in schema.attributes} == {
        ("left sock", "tag"),
        ("right sock", "tag"),
        ("bare feet", "tag"),
    }


def test_rows_of_one_tag_are_classes() -> None:
    assert infer_schema([["tabby cat"], ["red fox"], ["wolf"], None, []]).attributes == (
        Attribute("class", "exclusive", ("red fox", "tabby cat", "wolf")),
    )
    assert infer_schema([["blue hair"], ["red hair"]]).attributes[0].name == "hair"
    assert infer_schema([["blue hair"], ["red hair"]], one_class=True).attributes[0].name == "class"
    assert infer_schema([["smile"], []]).attributes == (Attribute("smile", "tag", ("smile",)),)


def test_a_single_word_tag_does_not_take_a_nouns_name() -> None:
    schema = infer_schema([["blue hair", "hair"], ["red hair", "hair"], ["blue hair"], ["red hair"]])
    assert sorted(a.name for a in schema.attributes) == ["hair", "hair (blue/red)"]


def test_no_tags_at_all_is_an_error() -> None:
    with raises("source-unlabelled"):
        infer_schema([None, [], ["  "]])


ROWS = st.lists(
    st.lists(
        st.sampled_from([*(f"{c} hair" for c in "abcde"), *(f"{c} eyes" for c in "abc"), "smile", "hat"]), max_size=5
    )
)


@given(ROWS)
def test_any_rows_give_a_schema_of_exactly_their_tags_whatever_the_order(rows: list[list[str]]) -> None:
    tags = {tag for row in rows for tag in row}
    if not tags:
        return
    schema = infer_schema(rows)
    assert set(schema.values) == tags
    assert infer_schema(reversed([list(reversed(row)) for row in rows])) == schema
    for attribute in schema.attributes:
        assert list(attribute.values) == sorted(attribute.values)


@given(ROWS)
def test_words_are_what_was_encoded(rows: list[list[str]]) -> None:
    if not any(rows):
        return
    schema = infer_schema(rows)
    for row in rows:
        encoded = schema.encode(row)
        assert encoded.label.shape == (schema.width,) and encoded.label.dtype == np.float32
        assert encoded.known.shape == (len(schema.attributes),) and encoded.known.dtype == bool
        lost = {v for a in schema.attributes if a.name in encoded.conflicts for v in a.values}
        assert set(schema.words(encoded.label, encoded.known)) == set(row) - lost
        unknown = np.repeat(~encoded.known, schema.widths)
        assert not encoded.label[unknown].any()
