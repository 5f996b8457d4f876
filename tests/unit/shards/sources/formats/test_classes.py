"""A folder of images per class."""

from __future__ import annotations

from pathlib import Path

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files, write_zip


def test_class_folders(tmp_path: Path) -> None:
    images = png_files("Red_Fox/1.png", "Red_Fox/deep/2.png", "wolf/1.png", "wolf/.hidden.png")
    source = scan_source(write_files(tmp_path, images))
    assert source.kind == "classes" and source.one_class
    assert tags_by_id(source) == {
        "Red_Fox/1.png": ("red fox",),
        "Red_Fox/deep/2.png": ("red fox",),
        "wolf/1.png": ("wolf",),
    }


def test_folders_of_splits_are_not_classes(tmp_path: Path) -> None:
    images = png_files("Train/cat/1.png", "Train/dog/2.png", "test/cat/deep/3.png", "test/4.png")
    source = scan_source(write_files(tmp_path / "src", images))
    assert source.kind == "classes"
    assert tags_by_id(source) == {
        "Train/cat/1.png": ("cat",),
        "Train/dog/2.png": ("dog",),
        "test/4.png": None,
        "test/cat/deep/3.png": ("cat",),
    }
    assert [item.part for item in source.items] == ["train", "train", "test", "test"]
    wrapped = write_zip(tmp_path / "a.zip", {f"wrapped/{name}": data for name, data in images.items()})
    assert tags_by_id(scan_source(wrapped)) == tags_by_id(source)
    one = write_files(tmp_path / "one", png_files("Train/cat/1.png", "Train/dog/2.png"))
    assert {item.tags for item in scan_source(one).items} == {("cat",), ("dog",)}


def test_folder_named_like_a_part_beside_classes_is_a_question(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("test/a/1.png", "bus/b/2.png"))
    with raises("unclear-source", "test/", "bus/", "--source classes"):
        scan_source(tmp_path)
    assert {item.tags for item in scan_source(tmp_path, "classes").items} == {("a", "test"), ("b", "bus")}


def test_splits_without_classes_are_unclear(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("train/1.png", "test/2.png"))
    with raises("unclear-source", "the folders test, train"):
        scan_source(tmp_path)
