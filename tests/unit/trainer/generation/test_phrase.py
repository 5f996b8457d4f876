"""Phrases: exactly one reading, or an error."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shards.core.errors import UserError
from shards.dataset.schema import Attribute, Schema
from support.errors import raises
from trainer.generation.phrase import parse, vector

SCHEMA = Schema(
    (
        Attribute("hair", "exclusive", ("blue hair", "red hair", "dark blue hair", "black and white hair")),
        Attribute("length", "exclusive", ("long hair", "short hair", "very long hair")),
        Attribute("eyes", "exclusive", ("blue eyes", "yellow eyes")),
        Attribute("class", "exclusive", ("fox", "golden retriever", "red fox")),
        *(
            Attribute(tag, "tag", (tag,))
            for tag in ("smile", "glasses", "hair ornament", "pale hair", "pale blue hair")
        ),
    )
)


def read(phrase: str, synonyms: dict[str, str] | None = None) -> list[str]:
    """Return a phrase's reading: values, and denied tags with a minus."""
    named = parse(phrase, SCHEMA, synonyms)
    label, mask = vector(named, SCHEMA)
    denied = [
        f"-{SCHEMA.attributes[a].name}"
        for a in named
        if mask[a] and not label[SCHEMA.starts[a] :][: SCHEMA.widths[a]].any()
    ]
    return sorted(SCHEMA.words(label, mask) + denied)


COLUMNS = Schema(
    (
        Attribute("gender", "exclusive", ("men gender", "women gender")),
        Attribute("age", "exclusive", ("old age", "young age", "very old age")),
        Attribute("hair colour", "exclusive", ("black hair colour", "dark brown hair colour", "grey hair colour")),
        Attribute("dress", "exclusive", ("black dress", "red dress")),
        Attribute("grey", "tag", ("grey",)),
        Attribute("red eyes", "tag", ("red eyes",)),
    )
)


@pytest.mark.parametrize(
    ("phrase", "meaning"),
    [
        ("women, old, dark brown hair", ["women gender", "old age", "dark brown hair colour"]),
        ("men, black hair, Red_Dress", ["men gender", "black hair colour", "red dress"]),
        ("very old, dark brown", ["very old age", "dark brown hair colour"]),
        ("grey", ["grey"]),  # exactly a tag
        ("grey hair", ["grey hair colour"]),
    ],
)
def test_values_of_columns_may_stand_without_the_column(phrase: str, meaning: list[str]) -> None:
    assert COLUMNS.words(*vector(parse(phrase, COLUMNS), COLUMNS)) == meaning


@pytest.mark.parametrize("phrase", ["black", "red", "dark", "very", "young men", "no women"])
def test_values_that_are_not_whole_or_not_the_only_ones_are_not_guessed(phrase: str) -> None:
    with pytest.raises(UserError):
        parse(phrase, COLUMNS)


@pytest.mark.parametrize(
    ("phrase", "meaning"),
    [
        ("blue long hair and yellow eyes", ["blue hair", "long hair", "yellow eyes"]),
        ("yellow eyes with long, blue hair", ["blue hair", "long hair", "yellow eyes"]),
        ("a very long blue hair", ["blue hair", "very long hair"]),
        ("dark blue hair, smile", ["dark blue hair", "smile"]),
        ("dark blue short hair", ["dark blue hair", "short hair"]),
        ("black and white long hair", ["black and white hair", "long hair"]),
        ("black and white hair", ["black and white hair"]),
        ("pale blue hair", ["pale blue hair"]),  # exactly a tag
        ("pale, blue hair", ["blue hair", "pale hair"]),  # no tag is read across a comma
        ("Long_Hair", ["long hair"]),
        ("no glasses", ["-glasses"]),
        ("a smile without glasses", ["-glasses", "smile"]),
        ("no hair ornament and blue eyes", ["-hair ornament", "blue eyes"]),
        ("a golden retriever with a smile", ["golden retriever", "smile"]),
        ("red fox", ["red fox"]),
        ("smile glasses", ["glasses", "smile"]),
    ],
)
def test_phrase_is_read(phrase: str, meaning: list[str]) -> None:
    assert read(phrase) == meaning


@pytest.mark.parametrize(
    ("phrase", "code", "named"),
    [
        ("bleu hair", "unknown-word", ["'bleu'", "'blue'"]),
        ("xyzzy", "unknown-word", ["'xyzzy'"]),
        ("yellow hair", "unknown-value", ["'yellow hair'", "blue", "red"]),
        ("blue", "incomplete-phrase", ["'blue'", "'blue hair'", "'blue eyes'"]),
        ("blue hair and eyes", "incomplete-phrase", ["'eyes'", "blue, yellow"]),
        ("red and blue hair", "contradictory-phrase", ["blue hair and red hair", "'hair'"]),
        ("pale blue hair and smile", "ambiguous-phrase", ["; or ", "pale blue hair"]),
        ("no blue hair", "not-deniable", ["smile, glasses"]),
        ("smile, no smile", "contradictory-phrase", ["no smile and smile"]),
        ("", "empty-phrase", ["'blue hair'"]),
        (" , ;", "empty-phrase", []),
        ("and", "empty-phrase", []),
        ("blue " * 100, "phrase-too-long", [100, 64]),
    ],
)
def test_phrase_without_a_reading_is_an_error(phrase: str, code: str, named: list[object]) -> None:
    with raises(code, *named):
        parse(phrase, SCHEMA)


def test_error_lists_similar_words() -> None:
    """A golden sentence."""
    with pytest.raises(UserError) as caught:
        parse("bleu hair", SCHEMA)
    assert str(caught.value).startswith("'bleu hair': unknown word 'bleu'; did you mean 'blue'")


def test_ambiguity_lists_both_readings() -> None:
    with pytest.raises(UserError) as caught:
        parse("pale blue hair and smile", SCHEMA)
    readings = re.split("; or |: |; put", str(caught.value))[1:3]
    assert readings == ["blue hair, smile, pale hair", "smile, pale blue hair"]


def test_tag_that_denies_another_can_be_named() -> None:
    tags = Schema(tuple(Attribute(name, "tag", (name,)) for name in ("shoes", "no shoes", "smile")))
    assert parse("no shoes", tags) == {1: 1}
    assert parse("smile, no shoes", tags) == {1: 1, 2: 1}
    assert parse("not shoes", tags) == {0: 0}
    with raises("ambiguous-phrase", "no shoes, smile; or not shoes, smile"):
        parse("smile and no shoes", tags)


SPELLED = Schema(tuple(Attribute(name, "tag", (name,)) for name in ("artoria (fate)", "^ ^", ";)", r"old \(tag\)")))


@pytest.mark.parametrize(
    ("phrase", "tags"),
    [
        ("artoria (fate)", {0: 1}),
        (r"artoria \(fate\), ^_^", {0: 1, 1: 1}),
        ("ａｒｔｏｒｉａ\u200b (fate)，^_^", {0: 1, 1: 1}),
        ("^_^;artoria (fate)", {0: 1, 1: 1}),
        (";), ^_^", {1: 1, 2: 1}),
        (r"old \(tag\)", {3: 1}),  # datasets of older versions have tags with escapes
    ],
)
def test_tags_can_be_spelled_as_prompts_and_tables_spell_them(phrase: str, tags: dict[int, int]) -> None:
    assert parse(phrase, SPELLED) == tags


CHOICES = st.tuples(*(st.none() | st.sampled_from(a.values) for a in SCHEMA.attributes))


@given(CHOICES, st.randoms(use_true_random=False))
def test_list_of_tags_parses_in_any_order(choices: tuple[str | None, ...], random: object) -> None:
    tags = [tag for tag in choices if tag]
    if not tags:
        return
    random.shuffle(tags)  # type: ignore[attr-defined]
    assert read(", ".join(tags)) == sorted(tags)


@given(
    st.lists(
        st.sampled_from("blue long very dark pale hair eyes fox red no and , with smile".split()),
        min_size=1,
        max_size=12,
    )
)
def test_any_words_are_read_or_are_an_error_of_one_line(words: list[str]) -> None:
    try:
        meaning = read(" ".join(words))
    except UserError as error:
        meaning = [str(error)]
    assert meaning and not any("\n" in line for line in meaning)


SYNONYMS = {
    "azure hair": "blue hair",
    "huge hair": "very long hair",
    "grin": "smile",
    "vulpes": "fox",
    "lost": "not there",
}


@pytest.mark.parametrize(
    ("phrase", "meaning"),
    [
        ("azure hair", ["blue hair"]),
        ("azure long hair and a grin", ["blue hair", "long hair", "smile"]),
        ("huge azure hair", ["blue hair", "very long hair"]),
        ("azure hair, blue hair", ["blue hair"]),
        ("no grin", ["-smile"]),
        ("blue hair and vulpes", ["blue hair", "fox"]),
        ("anything", []),
        (" Anything ", []),
    ],
)
def test_synonyms_stand_for_their_tags(phrase: str, meaning: list[str]) -> None:
    assert read(phrase, SYNONYMS) == meaning


def test_synonyms_of_removed_words_are_unknown() -> None:
    with raises("unknown-word", "'lost'"):
        parse("lost", SCHEMA, SYNONYMS)
    with raises("contradictory-phrase", "blue hair and red hair"):
        parse("azure hair and red hair", SCHEMA, SYNONYMS)
    with raises("unknown-word", "'azure'"):
        parse("azure hair", SCHEMA)


def test_labels_without_words_are_an_error() -> None:
    schema = Schema((Attribute("vector", "vector", (), 3),))
    with raises("labels-without-words", "'anything'"):
        parse("blue hair", schema)
    assert parse("anything", schema) == {}
