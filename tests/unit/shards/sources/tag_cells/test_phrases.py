"""Columns of phrases: nouns and modifiers are learned, and other columns are left alone."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest

from shards.core.problems import Problems
from shards.sources.tag_cells.dialect import TagDialect
from shards.sources.tag_cells.phrases import learn_phrases

HAIR = "aqua gray green orange red white black blonde blue brown pink purple".split()
EYES = "gray black orange pink yellow aqua purple green brown red blue".split()
Spell = Callable[[str, str, str], str]


def drawn(count: int) -> list[tuple[str, str, str]]:
    """Return random hair colours, hair lengths and eye colours."""
    chance = random.Random(count)
    return [(chance.choice(HAIR), chance.choice(("long", "short")), chance.choice(EYES)) for _ in range(count)]


WITH_LENGTH: list[Spell] = [
    lambda hair, length, eyes: f"{hair} {length} hair and {eyes} eyes",
    lambda hair, length, eyes: f"{length} hair, {hair} hair {eyes} eyes",
    lambda hair, length, eyes: f"{eyes} eyes, {length} {hair} hair",
    lambda hair, length, eyes: f"A girl with {length} {hair} hair and {eyes} eyes.",
    lambda hair, length, eyes: f"{length} {hair} hair {eyes} eyes",
]


@pytest.mark.parametrize("count", [40, 240])
@pytest.mark.parametrize("spell", WITH_LENGTH)
def test_phrases_of_hair_and_eyes(spell: Spell, count: int) -> None:
    rows = drawn(count)
    dialect = TagDialect.infer([spell(*row) for row in rows])
    for hair, length, eyes in rows:
        tags = dialect.tags(spell(hair, length, eyes))
        assert tags is not None and set(tags) == {f"{hair} hair", f"{length} hair", f"{eyes} eyes"}


@pytest.mark.parametrize("count", [15, 240])
def test_phrases_without_fillers(count: int) -> None:
    rows = drawn(count)
    dialect = TagDialect.infer([f"{hair} hair {eyes} eyes" for hair, _, eyes in rows])
    hair, _, eyes = rows[0]
    assert set(dialect.tags(f"{hair} hair {eyes} eyes") or ()) == {f"{hair} hair", f"{eyes} eyes"}
    assert dialect.phrases and dialect.phrases.nouns == ("hair", "eyes")


def test_phrases_in_many_forms_and_those_that_cannot_be_read() -> None:
    rows = drawn(240)
    cells = [WITH_LENGTH[i % 4](*row) for i, row in enumerate(rows)]
    cells[::5] = [f"{eyes} eyes with {length}, {hair} hair" for hair, length, eyes in rows[::5]]
    cells += ["very long dark blue hair without glasses", "very short dark red hair and glasses"]
    cells += ["dark red hair, glasses", "to do", "to do", "?"]
    dialect, problems = TagDialect.infer(cells), Problems()
    assert dialect.tags(cells[-6]) == ("very long hair", "dark blue hair")
    assert set(dialect.tags(cells[-5]) or ()) == {"very short hair", "dark red hair", "glasses"}
    assert set(dialect.tags(cells[0]) or ()) == {f"{word} hair" for word in rows[0][:2]} | {f"{rows[0][2]} eyes"}
    assert [dialect.tags(cell) for cell in cells[-3:]] == [None, None, None]
    assert dialect.tags("") == ()
    dialect.report(problems)
    assert problems.counts()["phrase-not-understood"] == 3
    assert problems.found["phrase-not-understood"] == ["to do", "?"]
    assert {key for key in problems.counts() if key.startswith("phrases-read")} == {
        "phrases-read hair, eyes, girl, glasses"
    }


def test_two_objects_with_sizes_and_colours() -> None:
    chance = random.Random(0)
    things = [
        (f"{size} {colour} {thing}") for size in ("large", "small") for colour in HAIR for thing in ("cube", "ball")
    ]
    phrases = learn_phrases(Counter(f"{chance.choice(things)} and {chance.choice(things)}" for _ in range(200)))
    assert phrases
    tags = phrases.read("large red cube and small blue ball")
    assert set(tags or ()) == {"large cube", "red cube", "small ball", "blue ball"}


@pytest.mark.parametrize(
    "cells",
    [
        [f"{hair} hair, {eyes} eyes, smile" for hair, _, eyes in drawn(100)],
        [f"school uniform, {hair} hair, black thigh highs, {eyes} eyes" for hair, _, eyes in drawn(100)],
        ["black footed albatross", "laysan albatross", "sooty albatross", "wire haired fox terrier", "red fox"] * 4,
        ["golden retriever", "labrador retriever", "irish water spaniel", "clumber spaniel", "welsh terrier"] * 4,
        ["macaroni and cheese", "fish and chips", "apple pie", "club sandwich", "grilled cheese sandwich"] * 3,
        [f"a photo of a {hair} {thing}" for hair, _, _ in drawn(100) for thing in ("car", "truck")],
        [f"{hair} {size} {thing}" for hair, size, _ in drawn(100) for thing in ("shirt", "dress", "jeans")],
        [f"a {hair} fox sits in the {eyes} snow" for hair, _, eyes in drawn(100)],
        ["A red fox sits in the snow.", "Two wolves are running over a frozen lake, and one howls."] * 5,
        HAIR * 10,
        [f"{hair}_{eyes}_{i}" for i, (hair, _, eyes) in enumerate(drawn(50))],
        ["", " ", ","],
    ],
)
def test_other_columns_are_no_phrases(cells: list[str]) -> None:
    assert learn_phrases(Counter(cells)) is None


@pytest.mark.parametrize("joint", [" and ", " ", ", ", " with "])
@pytest.mark.parametrize("seed", range(12))
def test_random_nouns_and_modifiers_are_read_as_lists_of_their_tags_are(seed: int, joint: str) -> None:
    chance = random.Random(f"{seed} {joint}")
    modifiers = {noun: chance.sample(HAIR, 5) for noun in chance.sample(("hair", "eyes", "hat", "coat"), 2)}
    sizes = chance.sample(("long", "short", "big", "tiny", "round"), 3)
    rows = [
        [(noun, (chance.choice(sizes), chance.choice(words))) for noun, words in modifiers.items()] for _ in range(120)
    ]
    phrases = [joint.join(" ".join((*words, noun)) for noun, words in row) for row in rows]
    expected = [{f"{word} {noun}" for noun, words in row for word in words} for row in rows]
    dialect = TagDialect.infer(phrases)
    assert [set(dialect.tags(phrase) or ()) for phrase in phrases] == expected
    lists = TagDialect.infer([", ".join(tags) for tags in expected])
    assert [set(lists.tags(", ".join(tags)) or ()) for tags in expected] == expected
