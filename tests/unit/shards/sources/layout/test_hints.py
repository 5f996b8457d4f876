"""What is proposed for images whose labels are not found."""

from __future__ import annotations

from shards.sources.layout.hints import describe_layout, propose_pattern
from shards.sources.layout.name_pattern import NamePattern


def test_class_and_number() -> None:
    for form, pattern in (
        ("{}_{:04}.png", "{class}_#"),
        ("train/{}.{}.jpg", "{class}.#"),
        ("{} ({}).png", "{class} (#)"),
    ):
        names = [form.format(("shiba_inu", "pug")[i % 2], i) for i in range(10)]
        proposal = propose_pattern(names)
        assert proposal and proposal.pattern == pattern
        parsed = NamePattern.parse(pattern)
        assert {(parsed.match(name) or {})["class"] for name in names} == {"shiba_inu", "pug"}


def test_pieces_with_few_values() -> None:
    proposal = propose_pattern([f"{i % 4}_{i % 2}_2017{i:04}.png" for i in range(40)])
    assert proposal and proposal.pattern == "{field1}_{field2}_*" and "field2 has 2 values" in proposal.finds


def test_names_without_labels() -> None:
    for names in (["1.png", "2.png"], [f"image_{i}.png" for i in range(9)], [f"{i:x}b.png" for i in range(99)]):
        assert propose_pattern(names) is None


def test_folders_are_described() -> None:
    clauses = describe_layout(["train/00000/00001.png", "train/01000/01002.png", "test/00000/00003.png"])
    assert "00000/, 01000/ only divide the files" in clauses[0] and "test/, train/" in clauses[1]
