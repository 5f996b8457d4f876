"""What each level of folders is: known layouts of datasets, by the names of their folders alone."""

from __future__ import annotations

import pytest

from shards.sources.layout.levels import read_layout

Read = dict[str, tuple[tuple[str, ...], str | None]]  # folder → labels and part


def read(*names: str, trusted: bool = False) -> Read:
    layout = read_layout(names, trusted=trusted)
    assert not layout.doubt, layout.doubt
    return {path: (tuple(folder.labels), folder.part) for path, folder in layout.folders.items()}


def doubt(*names: str) -> str:
    return read_layout(names).doubt


@pytest.mark.parametrize(
    ("folders", "parts"),
    [
        (("train", "val", "test"), ("train", "validation", "test")),
        (("Training", "Validation"), ("train", "validation")),
        (("training_set", "test_set"), ("train", "test")),
        (("seg_train", "seg_test", "seg_pred"), ("train", "test", "unlabelled")),
        (("images_train", "images_val"), ("train", "validation")),
        (("train2017", "val2017"), ("train", "validation")),
        (("bounding_box_train", "bounding_box_test"), ("train", "test")),
        (("Training", "Test", "test-multiple_fruits"), ("train", "test", "test")),
        (("train", "unlabeled", "holdout"), ("train", "unlabelled", "validation")),
        (("TrainSet", "TestSet"), ("train", "test")),
        (("训练集", "测试集"), ("train", "test")),
        (("data_256", "val_256", "test_256"), (None, "validation", "test")),
    ],
)
def test_parts_of_a_dataset(folders: tuple[str, ...], parts: tuple[str | None, ...]) -> None:
    found = read(*(f"{folder}/{name}/1.png" for folder in folders for name in ("fox", "wolf")))
    expected = {
        f"{folder}/{name}": ((name,), part)
        for folder, part in zip(folders, parts, strict=True)
        for name in ("fox", "wolf")
    }
    assert found == expected


def test_part_repeated_in_itself_is_one_part() -> None:
    assert read("seg_train/seg_train/sea/1.png", "seg_train/seg_train/ice/2.png", "seg_pred/seg_pred/3.png") == {
        "seg_train/seg_train/sea": (("sea",), "train"),
        "seg_train/seg_train/ice": (("ice",), "train"),
        "seg_pred/seg_pred": ((), "unlabelled"),
    }


def test_domains_of_two_sided_datasets_are_classes() -> None:
    assert read("trainA/1.png", "trainB/2.png", "testA/3.png") == {
        "trainA": (("A",), "train"),
        "trainB": (("B",), "train"),
        "testA": (("A",), "test"),
    }


def test_words_that_contain_the_name_of_a_part_are_classes() -> None:
    assert read("bullet_train/1.png", "freight_train/2.png", "test_tube/3.png") == {
        "bullet_train": (("bullet_train",), None),
        "freight_train": (("freight_train",), None),
        "test_tube": (("test_tube",), None),
    }


def test_parts_inside_classes() -> None:
    found = read("bottle/train/good/1.png", "bottle/test/broken/2.png", "cable/train/good/3.png")
    assert found["bottle/test/broken"] == (("bottle", "broken"), "test")
    assert found["cable/train/good"] == (("cable", "good"), "train")


def test_archive_with_its_content_twice() -> None:
    names = [f"{top}{part}/{name}/1.png" for top in ("", "xray/") for part in ("train", "test") for name in "ab"]
    assert read(*names)["xray/test/b"] == (("b",), "test")
    names = [f"{top}{name}/1.png" for top in ("", "tumours/") for name in ("yes", "no")]
    assert read(*names)["tumours/yes"] == (("yes",), None)


def test_folders_that_divide_the_files_by_number_are_no_classes() -> None:
    for names in (
        ("00000/00003.png", "01000/01007.png", "02000/02001.png"),
        ("00000/img00000003.png", "00001/img00001007.png"),
        ("0003/1003.jpg", "0003/27003.jpg", "0004/5004.jpg"),
        ("512px/0003/1003.jpg", "512px/0004/5004.jpg"),
    ):
        assert {labels for labels, _ in read(*names).values()} == {()}


def test_folders_named_like_portions_are_no_classes() -> None:
    for folders in (("part1", "part2"), ("shard_00", "shard_01"), ("images_001", "images_002"), ("fold-1", "fold-2")):
        found = read(*(f"{folder}/{name}/1.png" for folder in folders for name in ("fox", "wolf")))
        assert {labels for labels, _ in found.values()} == {("fox",), ("wolf",)}
    assert {labels for labels, _ in read("person_1/1.png", "person_2/1.png").values()} == {("person_1",), ("person_2",)}


def test_folders_of_hashes_are_no_classes() -> None:
    found = read("ab/cd/abcd0123456789.png", "ab/0f/ab0f0123456789.png", "c0/de/c0de0123456789.png")
    assert {labels for labels, _ in found.values()} == {()}


def test_first_letters_are_no_classes() -> None:
    found = read("a/airfield/1.png", "a/apartment/outdoor/2.png", "b/beach/3.png")
    assert [labels for labels, _ in found.values()] == [("airfield",), ("apartment", "outdoor"), ("beach",)]


def test_digits_and_letters_may_be_classes() -> None:
    for names in (("0/1.png", "1/2.png", "9/3.png"), ("A/1.png", "a/2.png"), ("1/12.png", "102/13.png")):
        assert [labels for labels, _ in read(*names).values()] == [(name.split("/")[0],) for name in names]


def test_folder_around_images_of_each_class_is_no_class() -> None:
    assert read("train/n01/images/1.png", "train/n02/images/2.png", "val/images/3.png") == {
        "train/n01/images": (("n01",), "train"),
        "train/n02/images": (("n02",), "train"),
        "val/images": ((), "validation"),
    }
    assert read("amazon/images/mug/1.png", "dslr/images/mug/1.png")["dslr/images/mug"] == (("dslr", "mug"), None)


def test_folders_around_everything_are_no_classes() -> None:
    found = read("archive/flowers/rose/1.png", "archive/flowers/tulip/2.png")
    assert [labels for labels, _ in found.values()] == [("rose",), ("tulip",)]


def test_folders_below_a_class_with_images_belong_to_it() -> None:
    layout = read_layout(["fox/1.png", "fox/more/2.png", "wolf/3.png"])
    assert layout.folders["fox/more"].labels == ["fox"] and layout.cut == ["fox/more"]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("test/a/1.png", "bus/b/2.png"), "test/"),
        (("train/1/1.png", "Meta/2.png"), "train/"),
        (("images/1.png", "cats/2.png"), "images/"),
        (("part1/1.png", "cats/2.png"), "part1/"),
        (("box_train/1.png", "box_test/2.png", "query/3.png"), "box_test/, box_train/"),
        (("00000/00000_1.png", "00001/00000_2.png"), "00000/"),
        (("01/a.png", "02/b.png"), "01/"),
        (("2017/a.png", "2018/b.png"), "2017/"),
        (("2017-01-02/a.png", "2017-01-03/b.png"), "2017-01-02/"),
        (("train/fox/1.png", "test/fox/2.png", "papers/3.png"), "papers/"),
        (("0/99.png", "1/1999.png"), "0/"),
    ],
)
def test_folders_that_may_be_something_else_are_doubted(names: tuple[str, ...], named: str) -> None:
    assert named in doubt(*names)
    assert read_layout(names, trusted=True).doubt == ""


def test_trusted_folders_are_classes() -> None:
    assert read("01/a.png", "02/b.png", trusted=True) == {"01": (("01",), None), "02": (("02",), None)}
    assert read("part1/a.png", "part2/b.png", trusted=True)["part2"] == (("part2",), None)
    assert read("cats/a.png", trusted=True) == {"cats": (("cats",), None)}
    assert read("train/part1/fox/a.png", "train/part2/fox/b.png", trusted=True)["train/part2/fox"] == (
        ("fox",),
        "train",
    )


def test_folders_beside_parts_have_no_class_if_trusted() -> None:
    found = read("train/fox/1.png", "test/fox/2.png", "papers/3.png", trusted=True)
    assert found == {"train/fox": (("fox",), "train"), "test/fox": (("fox",), "test"), "papers": ((), None)}


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (("happy", "sad", "angry"), ("S001", "S002", "S003")),
        (("train/happy", "train/sad", "test/happy"), ("1a0/7", "1a0/8", "1a0/9")),
        (("Greek", "Latin", "Tifinagh"), ("character01", "character02", "character03", "character04")),
        (("a/happy", "b/sad"), ("person_1", "person_2", "person_3")),
    ],
)
def test_trap_numbered_folders_that_recur_in_each_other_folder_are_doubted(
    outer: tuple[str, ...], inner: tuple[str, ...]
) -> None:
    names = [f"{top}/{name}/{n}_{top[-1]}.png" for top in outer for name in inner for n in range(2)]
    assert "--from-name" in doubt(*names) and "--source classes" in doubt(*names)
    assert doubt(*names[: -2 * len(inner) + 2])  # not all persons have all expressions
    assert not read_layout(names, trusted=True).doubt


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        (("S001", "S002", "S003"), ("happy", "sad", "angry")),
        (("18", "19", "20"), ("111", "112")),
        (("amazon", "dslr", "webcam"), ("mug", "pen", "bike_2")),
        (("train", "val", "test"), ("n01", "n02", "n03")),
        (("fruit",), ("apple 1", "apple 2", "apple 3")),
    ],
)
def test_innermost_folders_that_are_clear(outer: tuple[str, ...], inner: tuple[str, ...]) -> None:
    assert not doubt(*(f"{top}/{name}/a{n}.png" for top in outer for name in inner for n in range(2)))
    unique = [f"{top}/{top}{name}/a.png" for top in ("fox", "cat") for name in range(4)]
    assert not doubt(*unique)
