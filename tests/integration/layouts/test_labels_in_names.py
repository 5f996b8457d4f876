"""Labels in the names of images."""

from __future__ import annotations

from pathlib import Path

from support.errors import raises
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files


def test_flat_folder_of_numbered_names(tmp_path: Path) -> None:
    write_files(tmp_path, png_files(*(f"{('blue', 'red')[i % 2]}_hair_{i:04}.png" for i in range(8))))
    with raises("unclear-source", "--from-name '{class}_#'", "2 classes", "blue_hair"):
        scan_source(tmp_path)
    assert tags_by_id(scan_source(tmp_path, from_name="{class}_#"))["red_hair_0003.png"] == ("red hair",)
    source = scan_source(tmp_path, from_name="{hair}_hair_*")
    assert tags_by_id(source)["blue_hair_0000.png"] == ("blue hair",)
    assert [(a.name, a.values) for a in source.attributes] == [("hair", ("blue hair", "red hair"))]


def test_ages_and_codes_in_names(tmp_path: Path) -> None:
    names = [f"part{i % 3 + 1}/{20 + i % 4}_{i % 2}_{i % 3}_20170116{i:04}.png" for i in range(24)]
    write_files(tmp_path, png_files(*names))
    with raises("unclear-source", "part1/, part2/, part3/ only divide the files", "{field1}_{field2}_{field3}_*"):
        scan_source(tmp_path)
    with raises("column-undecided", "{age}", "--class age", "--numbers age"):
        scan_source(tmp_path, from_name="{age}_{gender}_{race}_*")
    source = scan_source(tmp_path, from_name="{age}_{gender}_{race}_*", numbers=("age",), class_=("gender", "race"))
    items = by_id(source)
    assert items["part2/21_1_1_201701160001.png"].tags == ("1 gender", "1 race")
    assert items["part3/22_0_2_201701160002.png"].vector == (22.0,)


def test_names_that_do_not_match_are_counted(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("shiba_inu_1.png", "pug_2.png", "cover.png"))
    source = scan_source(tmp_path, from_name="{class}_#")
    assert tags_by_id(source) == {"shiba_inu_1.png": ("shiba inu",), "pug_2.png": ("pug",), "cover.png": None}
    assert source.problems.found["name-without-labels"] == ["cover.png"]
    with raises("format-mismatch", "{a}-{b}", "cover.png"):
        scan_source(tmp_path, from_name="{a}-{b}")


def test_folders_in_a_pattern(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("x/pug/front/1.png", "x/pug/side/2.png", "x/owl/side/3.png"))
    source = scan_source(tmp_path, from_name="{animal}/{view}/{id}.png")
    assert tags_by_id(source)["x/owl/side/3.png"] == ("owl animal", "side view")


def test_patterns_that_are_none(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a_1.png"))
    for pattern in ("*_#", "{a}_{a}", "{a", "{a}*{b}*{c}*{d}*", "{id}_#"):
        with raises("invalid-value", "--from-name"):
            scan_source(tmp_path, from_name=pattern)
    with raises("option-missing", "--from-name"):
        scan_source(tmp_path, "names")
