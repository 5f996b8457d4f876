"""Names that differ by case alone."""

from __future__ import annotations

from shards.sources.spelling import merged_by_case, words_by_case


def test_single_letters_are_kept_apart() -> None:
    assert words_by_case(["A", "a", "b"]) == {"A": "capital a", "a": "small a", "b": "b"}


def test_three_pairs_are_no_slips() -> None:
    names = ["\\Pi", "\\pi", "\\Sigma", "\\sigma", "\\Delta", "\\delta", "x"]
    words = words_by_case(names)
    assert words["\\Pi"] == "capital \\pi" and words["\\pi"] == "small \\pi" and words["x"] == "x"
    assert len(set(words.values())) == len(names)


def test_one_pair_is_one_word() -> None:
    words = words_by_case(["Male", "male", "FEMALE"])
    assert words == {"Male": "male", "male": "male", "FEMALE": "female"}
    assert merged_by_case(words) == [("Male", "male")]
    assert words_by_case(["Male", "male"], {"male"}) == {"Male": "capital male", "male": "small male"}


def test_more_than_two_spellings_name_their_capitals() -> None:
    words = words_by_case(["ab", "Ab", "AB"], {"ab"})
    assert words == {"ab": "small ab", "Ab": "ab (capitals 1)", "AB": "ab (capitals 1 2)"}


def test_blanks_and_underscores_make_no_difference() -> None:
    assert set(words_by_case(["red_fox", "red fox", "Red  Fox"]).values()) == {"red fox"}
