"""Counting problems by code."""

from __future__ import annotations

import json

import pytest

from shards.core.problems import Problems


def test_few_names_are_kept_and_all_problems_counted_with_one_line_per_kind() -> None:
    problems = Problems()
    for i in range(1000):
        problems.add("row-without-image", f"a\nb{i}")
    problems.add("values-conflicting", detail="'hair\ncolour'", count=7)
    names = [f"a b{i}" for i in range(5)]
    assert problems.found == {"row-without-image": names, "values-conflicting 'hair colour'": []}
    twice = Problems()
    for _ in range(2):
        twice.take(json.loads(json.dumps(problems.noted())))
    assert twice.counts() == {"row-without-image": 2000, "values-conflicting 'hair colour'": 14}
    assert twice.lines() == [
        "rows without an image (left out): 2,000 (a b0, a b1, a b2, a b3, a b4 and 1,995 more)",
        "images with two values of 'hair colour' (unknown there): 14",
    ]


def test_sentences_have_their_details() -> None:
    problems = Problems()
    problems.add("tag-not-in-schema", "hat", detail="schema.yaml")
    problems.add("member-not-read", "a/1", detail=".seg.png")
    problems.add("image-unusable", "b.png: damaged")
    assert problems.sentences() == {
        "tags that schema.yaml lacks (left out)": 1,
        ".seg.png members (not read)": 1,
        "images that cannot be used (left out)": 1,
    }
    assert problems.described(1) == [
        "tags that schema.yaml lacks (left out): hat",
        ".seg.png members (not read): a/1",
        "images that cannot be used (left out): b.png: damaged",
    ]


def test_notes_of_an_older_version_keep_their_sentences() -> None:
    problems = Problems()
    problems.take({"rows without an id (left out)": (6, ["line 6"])})
    assert problems.sentences() == {"rows without an id (left out)": 6}
    assert problems.lines() == ["rows without an id (left out): 6 (line 6 and 5 more)"]


def test_an_unknown_code_is_refused() -> None:
    with pytest.raises(KeyError):
        Problems().add("row-without-imgae")
