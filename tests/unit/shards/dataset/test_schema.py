"""The label schema: words to vectors and back, and its file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from shards.dataset.schema import Attribute, Schema
from shards.vocabulary.spelling import normalise
from support.errors import raises

HAIR = Schema(
    (
        Attribute("eyes", "exclusive", ("blue eyes", "yellow eyes")),
        Attribute("hair", "exclusive", ("blue hair", "red hair", "green hair")),
        Attribute("smile", "tag", ("smile",)),
    )
)


def test_encode_by_hand() -> None:
    label, known, conflicts = HAIR.encode(["Red_Hair", "blue eyes", "unheard of"])
    assert label.tolist() == [1, 0, 0, 1, 0, 0] and known.tolist() == [True, True, True] and conflicts == ()
    label, known, conflicts = HAIR.encode(["red hair", "blue hair", "smile"])
    assert label.tolist() == [0, 0, 0, 0, 0, 1] and known.tolist() == [False, False, True] and conflicts == ("hair",)
    assert HAIR.encode(["red hair"], "unknown").known.tolist() == [False, True, False]
    assert HAIR.encode(["smile"], "unknown").known.tolist() == [False, False, True]
    for nothing in (None, []):
        label, known, conflicts = HAIR.encode(nothing)
        assert not label.any() and not known.any() and not conflicts
    assert HAIR.starts.tolist() == [0, 2, 5] and HAIR.widths == (2, 3, 1) and HAIR.width == 6


def test_columns_are_known_only_where_a_row_says_so() -> None:
    schema = Schema(
        (
            Attribute("hair", "exclusive", ("blue hair", "red hair")),
            Attribute("smile", "tag", ("smile",)),
            Attribute("hat", "tag", ("hat",)),
            Attribute("pose", "vector", (), 2),
        )
    )
    columns = frozenset({"blue hair", "red hair", "hat"})
    known = [
        schema.encode(tags, denied=denied, explicit=columns).known.tolist()
        for tags, denied in [((), ()), (("blue hair",), ("hat",)), (("blue hair", "smile"), ()), (("sun",), ())]
    ]
    assert known == [[0, 0, 0, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 1, 0, 0]]
    assert schema.encode(("blue hair", "hat"), explicit=columns).label.tolist() == [1, 0, 0, 1, 0, 0]


def test_normalise() -> None:
    assert normalise("  Very_Long   Hair ") == "very long hair"
    assert normalise("dog, big") == "dog big"  # a comma would fall apart in tags.csv
    assert normalise("e\u0301tude") == normalise("\u00e9tude")


def test_yaml_round_trip(tmp_path: Path) -> None:
    odd = Schema((Attribute("yes: no", "exclusive", ("on", "1e3", "null", "é")), Attribute("#", "tag", ("- x",))))
    for schema in (HAIR, odd):
        schema.save(tmp_path / "schema.yaml")
        assert Schema.load(tmp_path / "schema.yaml") == schema
        assert Schema.from_json(schema.to_json()) == schema


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ([], "list under the key 'attributes'"),
        ({"attributes": []}, "no attributes"),
        ({"attributes": [{"name": "x", "kind": "both", "values": ["a"]}]}, "kind is 'both'"),
        ({"attributes": [{"name": "x", "kind": "exclusive", "values": [True]}]}, "put it in quotes"),
        ({"attributes": [{"name": "x", "kind": "exclusive", "values": []}]}, "values must be a list"),
        ({"attributes": [{"name": "x", "kind": "tag", "values": ["a", "b"]}]}, "exactly one value"),
        ({"attributes": [{"name": "x", "kind": "tag", "value": ["a"]}]}, "unknown key 'value'"),
        (
            {"attributes": [{"name": "x", "kind": "tag"}, {"name": "x", "kind": "tag", "values": ["b"]}]},
            "name 'x' is repeated",
        ),
        (
            {"attributes": [{"name": "x", "kind": "tag"}, {"name": "y", "kind": "tag", "values": ["x"]}]},
            "value 'x' is repeated",
        ),
        ({"attributes": ["x"]}, "attribute 1"),
    ],
)
def test_an_invalid_schema_is_named(content: Any, named: str) -> None:
    with raises("schema-invalid", named):
        Schema.from_json(content)


def test_broken_yaml_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("attributes: [\n")
    with raises("invalid-yaml", path) as caught:
        Schema.load(path)
    assert "\n" not in str(caught.value)
    with raises("file-unreadable", tmp_path / "none.yaml"):
        Schema.load(tmp_path / "none.yaml")
