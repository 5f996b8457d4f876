"""Ids of rows name images on a ladder of readings, each used only without doubt and said."""

from __future__ import annotations

import time

import pytest

from shards.core.problems import Problems
from shards.sources.id_ladder import ImageNames


def match(images: list[str], ids: list[str]) -> tuple[list[str | None], dict[str, int]]:
    problems = Problems()
    return ImageNames(images).match(ids, problems), problems.counts()


PICS = [f"pics/Img_{n:03}.JPG" for n in range(12)]


@pytest.mark.parametrize(
    ("pattern", "code"),
    [
        ("Img_{:03}.JPG", ""),
        ("Img_{:03}", ""),
        ("pics/Img_{:03}.JPG", ""),
        ("./pics/Img_{:03}.JPG", ""),
        ("C:\\data\\pics\\Img_{:03}.JPG", "id-matched-by-path"),
        ("pics\\Img_{:03}.JPG", "id-matched-by-path"),
        ("/home/someone/data/pics/Img_{:03}.JPG", "id-matched-by-path"),
        ("https://example.org/a/pics/Img_{:03}.JPG?size=1#top", "id-matched-by-path"),
        ("https://example.org/other/Img_{:03}.JPG", "id-matched-by-path"),
        ("/data/upload/3/Img_{:03}.JPG", "id-matched-by-path"),
        ("%70ics/Img_{:03}.JPG", "id-matched-by-path"),
        ("../src/pics/Img_{:03}.JPG", "id-matched-by-path"),
        ("img_{:03}.jpg", "id-matched-by-case"),
        ("D:\\Pics\\IMG_{:03}.jpg", "id-matched-by-case"),
        ("Img_{:03}.png", "id-matched-without-extension"),
        ("https://example.org/img_{:03}.webp", "id-matched-without-extension"),
    ],
)
def test_paths_of_other_computers_are_matched_and_said(pattern: str, code: str) -> None:
    images, counts = match(PICS, [pattern.format(n) for n in range(12)])
    assert images == PICS
    assert counts == ({code: 12} if code else {})


@pytest.mark.parametrize("pattern", ["{}", "{}.0", "0{}", "{}.png", "C:\\pics\\{}.png"])
def test_lost_zeros_are_added_and_said(pattern: str) -> None:
    names = [f"faces/{n:06}.png" for n in range(1, 20)]
    assert match(names, [pattern.format(n) for n in range(1, 20)]) == (names, {"id-matched-by-number": 19})


def test_floats_name_numbers_without_zeros() -> None:
    assert match(["1.png", "2.png"], ["1.0", "2.0"]) == (["1.png", "2.png"], {"id-matched-by-number": 2})


def test_only_ids_that_lost_zeros_are_counted() -> None:
    names = [f"{n:06}.png" for n in range(20)]
    ids = [f"{n:06}" if n < 10 else str(n) for n in range(20)]
    assert match(names, ids) == (names, {"id-matched-by-number": 10})


def test_number_that_fits_two_images_is_ambiguous() -> None:
    assert match(["017.png", "0017.png", "18.png"], ["17", "18"]) == ([None, "18.png"], {"id-ambiguous": 1})


def test_two_ids_that_differ_by_zeros_do_not_share_an_image() -> None:
    assert match(["000017.png"], ["17", "017"]) == ([None, None], {"id-ambiguous": 2})


def test_capital_letters_that_matter_are_kept_apart() -> None:
    assert match(["A/1.png", "a/1.png"], ["A/1", "a/1"])[0] == ["A/1.png", "a/1.png"]
    assert match(["Cat.png", "cat.png"], ["CAT"]) == ([None], {"id-ambiguous": 1})


def test_missing_image_is_not_replaced_by_one_of_another_folder() -> None:
    images, counts = match(["cat/1.jpg", "dog/1.jpg", "cat/3.jpg"], ["cat/1.jpg", "dog/1.jpg", "dog/3.jpg"])
    assert images == ["cat/1.jpg", "dog/1.jpg", None]
    assert counts == {"row-without-image": 1}


def test_file_names_that_repeat_in_the_table_are_not_matched_without_their_folders() -> None:
    assert match(["x/1.jpg"], ["a/1.jpg", "b/1.jpg"]) == ([None, None], {"id-ambiguous": 2})


def test_bare_name_in_two_folders_is_ambiguous() -> None:
    assert match(["a/1.png", "b/1.png"], ["1"]) == ([None], {"id-ambiguous": 1})


def test_accents_are_one_letter_however_they_are_written() -> None:
    assert match(["e\u0301te\u0301.png"], ["\u00e9t\u00e9"]) == (["e\u0301te\u0301.png"], {})


def test_repeated_empty_and_unknown_ids_are_counted() -> None:
    images, counts = match(["1.png"], ["1", "1", "1.png", " ", "elsewhere"])
    assert images == ["1.png", None, None, None, None]
    assert counts == {"id-repeated": 2, "row-without-id": 1, "row-without-image": 1}


def test_mismatch_names_ids_images_and_the_likely_reason() -> None:
    said = ImageNames(["img_a.png", "img_b.png"]).describe_mismatch(["17", "18", "19", "20"])
    assert "17, 18, 19" in said and "img_a.png" in said and "numbers" in said and "20" not in said


def test_cells_that_may_name_an_image() -> None:
    names = ImageNames(["pics/000017.png"])
    assert all(map(names.may_name, ["17", "17.0", "000017", "C:\\x\\000017.PNG", "pics/000017.png"]))
    assert not any(map(names.may_name, ["", "18", "hair", "17 hairs"]))


def test_many_ids_and_images_take_seconds() -> None:
    names = [f"a/b/{n:07}.png" for n in range(20_000)]
    start = time.process_time()
    images, _ = match(names, [f"D:\\c\\{n}.PNG" for n in range(40_000)])
    assert images[:20_000] == names
    assert time.process_time() - start < 20
