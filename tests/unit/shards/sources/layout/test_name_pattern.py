"""Patterns of labels in file names."""

from __future__ import annotations

import pytest

from shards.sources.layout.name_pattern import NamePattern


@pytest.mark.parametrize(
    ("pattern", "name", "found"),
    [
        ("{age}_{gender}_{race}_*", "x/25_0_3_2017_1.jpg.chip.jpg", {"age": "25", "gender": "0", "race": "3"}),
        ("{breed}_#", "american_bulldog_12.jpg", {"breed": "american_bulldog"}),
        ("{breed}_{id}", "american_bulldog_x12.jpg", {"breed": "american_bulldog"}),
        ("{breed}/{id}.jpg", "a/pug/7.jpg", {"breed": "pug"}),
        ("{breed}/*", "pug/7.jpg", {"breed": "pug"}),
        ("{class} (#)", "benign (12).png", {"class": "benign"}),
        ("{class}.#", "cat.12.jpg", {"class": "cat"}),
        ("{who}-{mood}", "ann-happy.png", {"who": "ann", "mood": "happy"}),
    ],
)
def test_fields_of_a_name(pattern: str, name: str, found: dict[str, str]) -> None:
    assert NamePattern.parse(pattern).match(name) == found


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("{a}_{b}", "x_y_z.png"),  # which underscore?
        ("{a}_#", "x_y.png"),
        ("{a}/{b}", "x.png"),
        ("{a}.png", "x.jpg"),
        ("{a}_{b}", "_y.png"),
    ],
)
def test_names_that_do_not_fit(pattern: str, name: str) -> None:
    assert NamePattern.parse(pattern).match(name) is None


def test_hostile_names_take_no_time() -> None:
    for length in (250, 100_000):
        assert NamePattern.parse("*_*_{a}_#").match("_" * length + "x.png") is None


def test_images_without_an_ending_have_labels_in_their_names() -> None:
    found = NamePattern.parse("{class}/{age}_*").match("v1.2/cat/30_1")
    assert found == {"class": "cat", "age": "30"}
