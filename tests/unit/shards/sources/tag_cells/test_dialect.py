"""Tags in cells: separators, lists, weights, escapes and emoticons."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shards.core.problems import Problems
from shards.sources.cells import InvalidValue
from shards.sources.tag_cells.dialect import TagDialect


def read(*cells: Any, are_tags: bool = True, min_weight: float = 0) -> list[tuple[str, ...] | None]:
    """Return the tags of all cells of a column."""
    dialect = TagDialect.infer(cells, are_tags=are_tags, min_weight=min_weight)
    return [dialect.tags(cell) for cell in cells]


def said(*cells: Any, are_tags: bool = True, min_weight: float = 0) -> dict[str, int]:
    """Return what is reported after reading a column."""
    dialect, problems = TagDialect.infer(cells, are_tags=are_tags, min_weight=min_weight), Problems()
    for cell in cells:
        dialect.tags(cell)
    dialect.report(problems)
    return problems.counts()


@pytest.mark.parametrize(
    "cell",
    [
        "blue hair, smile",
        "Blue_Hair,\u200bsmile",
        "blue hair\nsmile",
        "blue hair\tsmile",
        "blue hair，smile",
        "ｂｌｕｅ hair、smile",
        "blue hair ||| smile",
        "['blue hair', 'smile']",
        '["blue hair", "smile"]',
        "[blue hair, smile]",
        "['blue hair' 'smile']",
        "('blue hair', 'smile')",
        "array(['blue hair', 'smile'], dtype=object)",
        '{"choices": ["blue hair", "smile"]}',
        "{'choices': ['blue hair', 'smile']}",
        '[{"name": "blue_hair", "category": "0"}, {"name": "smile", "category": "0"}]',
        '{"general": ["blue hair"], "other": ["smile"]}',
        '{"blue hair": 0.9, "smile": 0.8}',
        '{"blue hair": true, "hat": false, "smile": true}',
        ["blue hair", "smile"],
        [{"name": "blue_hair", "score": 0.5}, "smile"],
        "(blue hair:1.2), ((smile))",
        "(blue hair, smile:1.3)",
        "[blue hair], {smile}",
        "blue hair:7000, smile:12",
        "blue hair (0.93), smile (41%)",
        "\"blue hair\", 'smile'",
        "#blue_hair #smile",
    ],
)
def test_cell_has_two_tags(cell: Any) -> None:
    assert read(cell) == [("blue hair", "smile")]


@pytest.mark.parametrize("sign", ["|", ";", "/", "+", "; ", " | ", "·"])
def test_signs_split_where_the_parts_recur(sign: str) -> None:
    parts = ("blue hair", "smile"), ("red hair",), ("blue hair", "hat"), ("smile", "hat"), ("smile",)
    cells = [sign.join(tags) for tags in parts]
    assert read(*cells) == list(parts)
    assert read(*cells, are_tags=False) == list(parts)
    (key, count) = next(iter(said(*cells).items()))
    assert key.startswith("tags-split ") and sign.strip() in key and count == 3


@pytest.mark.parametrize(
    "cells",
    [
        ("hip-hop/rap", "pop", "rock", "hip-hop/rap"),
        ("c++", "c", "java", "c++"),
        ("black/white hair", "brown/white hair", "black hair", "brown hair", "white hair"),
        ("01/02/2020", "02/03/2021", "01/03/2020"),
        ("tench, tinca tinca", "goldfish, carassius auratus", "tench, tinca tinca"),
        ("type: null", "mr. mime", "farfetch'd", "nidoran-f"),
    ],
)
def test_class_names_with_signs_stay_whole(cells: tuple[str, ...]) -> None:
    assert read(*cells, are_tags=False) == [(cell.replace(",", ""),) for cell in cells]
    assert not said(*cells, are_tags=False)


def test_classes_that_are_lists_are_split_and_said() -> None:
    cells = ("cat, dog", "cat", "dog")
    assert read(*cells, are_tags=False) == [("cat", "dog"), ("cat",), ("dog",)]
    assert said(*cells, are_tags=False) == {"tags-split ','": 1}


def test_names_with_colons_are_not_counts() -> None:
    assert read("view:front, hair:blue", "view:side, hair:red")[0] == ("view:front", "hair:blue")
    assert read("fate:zero, saber", "nier:2, saber")[1] == ("nier:2", "saber")


def test_light_tags_are_left_out_and_said() -> None:
    cells = ("blue hair:0.9, smile:0.2", "red hair:0.8, smile:0.7")
    assert read(*cells, min_weight=0.5) == [("blue hair",), ("red hair", "smile")]
    assert said(*cells, min_weight=0.5) == {"tags-weighted": 4, "tags-light 0.5": 1}


def test_escapes_and_entities() -> None:
    assert read(r"artoria pendragon \(fate\), name (series)") == [("artoria pendragon (fate)", "name (series)")]
    assert read("AT&amp;T, &gt;_&lt;") == [("at&t", "> <")]


@pytest.mark.parametrize("sign", [", ", "; ", " | ", ",", "\n"])
def test_emoticons_are_tags(sign: str) -> None:
    emoticons = ["^_^", ":d", r"\m/", ";)", ":/", ">_<", ":|", "+_+"]
    cells = [sign.join(["smile", emoticon, "hat"]) for emoticon in emoticons] + ["smile", "hat"]
    expected = [("smile", emoticon.replace("_", " "), "hat") for emoticon in emoticons]
    assert read(*cells)[: len(emoticons)] == expected


def test_blanks_split_where_words_have_underscores() -> None:
    cells = ("1girl long_hair :d", "1girl short_hair", "1girl long_hair")
    assert read(*cells)[0] == ("1girl", "long hair", ":d")
    assert said(*cells) == {"tags-split-at-blanks": 3}


@pytest.mark.parametrize("cell", [3, [1, 2], {"a": "b"}, [[[[[[[["deep"]]]]]]]]])
def test_other_values_are_invalid(cell: Any) -> None:
    with pytest.raises(InvalidValue):
        TagDialect().tags(cell)


@pytest.mark.parametrize(
    "cell", ["(" * 200_000, "[" * 200_000, "'" * 99_999, "(a," * 50_000, '["' * 50_000, ":" * 99_999]
)
def test_hostile_cells_are_read_in_linear_time(cell: str) -> None:
    read(cell)


WORDS = st.sampled_from("smile hat wig cat dog scarf boots glasses".split())
HAIR = st.sampled_from(["blue hair", "red hair", "very long hair", "o'neil hair"])
ROWS = st.lists(st.tuples(HAIR, st.lists(WORDS, min_size=1, max_size=4, unique=True)), min_size=12, max_size=30)


@settings(max_examples=30, deadline=None)
@given(ROWS, st.randoms(use_true_random=False))
def test_any_dialect_gives_the_same_tags(rows: list[tuple[str, list[str]]], chance: random.Random) -> None:
    lists = [[hair, *words] for hair, words in rows] + [[word] for _, words in rows for word in words]
    expected = [tuple(tags) for tags in lists]
    spellings = [", ".join, ",".join, "、".join, "\n".join, "\t".join, " ||| ".join, json.dumps, str, list]
    for spell in (*spellings, lambda tags: " ".join(f"#{tag.replace(' ', '_')}" for tag in tags)):
        assert read(*map(spell, lists)) == expected
    assert read(*(", ".join(f"{tag}:{chance.randrange(9999)}" for tag in tags) for tags in lists)) == expected
    assert read(*(", ".join(f"({tag}:{chance.random():.2f})" for tag in tags) for tags in lists)) == expected


def test_cleaned_letters_are_said() -> None:
    cells = ("blue\u200b hair, smile", "ｂｌｕｅ hair，smile", "青い髪, smile", "blue\u00a0hair, smile")
    assert set(read(*cells)) == {("blue hair", "smile"), ("青い髪", "smile")}
    assert said(*cells) == {"letters-cleaned": 2}


def test_commas_in_brackets_separate_nothing() -> None:
    assert read("dress (red, long), smile") == [("dress (red long)", "smile")]
    assert read(r"dress \(red, long\), hat (") == [("dress (red long)", "hat (")]


def test_lists_of_numbers_are_no_tags() -> None:
    with pytest.raises(InvalidValue):
        read("[0, 1, 0]", "[1, 0, 0]")


def test_semicolons_between_tags_need_less_evidence() -> None:
    cells = ("hair: blue; eyes: red", "hair: red; eyes: blue", "hair: blue; eyes: blue")
    assert read(*cells)[0] == ("hair: blue", "eyes: red")
    assert read("steins;gate, okabe", "steins;gate, mayuri") == [("steins;gate", "okabe"), ("steins;gate", "mayuri")]


@pytest.mark.parametrize(
    "form",
    [
        "{0}_hair 0.9{2}\n{1} 0.8{2}",
        "{0} hair 0.9{2}, {1} 0.8{2}",
        "{0} hair, 0.9{2}, {1}, 0.8{2}",
        "{0}_hair\t0.9{2}\n{1}\t0.8{2}",
        "{0}_hair 0.9{2} {1} 0.8{2}",
        "{0} hair 9{2}%\n{1} 8.{2}%",
        "0.9{2} {0}_hair\n0.8{2} {1}",
        "0.9{2}: {0}_hair\n0.8{2}: {1}",
    ],
)
def test_trap_scores_of_taggers_are_weights(form: str) -> None:
    cells = [form.format(("blue", "red")[n % 2], ("cat", "dog", "owl")[n % 3], n % 10) for n in range(30)]
    assert read(*cells) == [(f"{('blue', 'red')[n % 2]} hair", ("cat", "dog", "owl")[n % 3]) for n in range(30)]
    assert said(*cells)["tags-weighted"] == 60
    assert not any(read(*cells, min_weight=1))


def test_numbers_after_names_are_no_scores() -> None:
    assert read("iphone 12, cat", "iphone 11, dog", "galaxy 2, cat")[0] == ("iphone 12", "cat")
    assert read("apple 1", "apple 2", "pear 1")[1] == ("apple 2",)
    assert read(*(f"height 1.{n}, width 0.{n}" for n in range(4)))[3] == ("height 1.3", "width 0.3")
