"""Texts in folders of their own, parallel to those of the images."""

from __future__ import annotations

from pathlib import Path

from support.source_files import by_id, png_files, scan_source, write_files

LINES = "the bird is grey\nit has black wings\n"


def test_texts_beside_class_folders_are_captions_of_images_with_a_class(tmp_path: Path) -> None:
    names = ("001.Albatross/1", "001.Albatross/2", "002.Gull/1", "002.Gull/3")
    texts = {f"text_c10/{name}.txt": LINES for name in names}
    source = scan_source(write_files(tmp_path, {**texts, **png_files(*(f"images/{name}.png" for name in names))}))
    item = by_id(source)["images/002.Gull/1.png"]
    assert (source.kind, item.tags, item.caption) == ("classes", ("gull",), "the bird is grey")
    assert source.problems.counts()["caption-not-first"] == 4


def test_class_folders_of_texts_are_classes_of_images_in_one_folder(tmp_path: Path) -> None:
    texts = {f"text_c10/class_0000{i % 2 + 1}/image_{i}.txt": f"{LINES}number {i}" for i in range(4)}
    source = scan_source(write_files(tmp_path, {**texts, **png_files(*(f"jpg/image_{i}.png" for i in range(4)))}))
    item = by_id(source)["jpg/image_3.png"]
    assert (source.kind, item.tags, item.caption) == ("sidecars", ("class 00002",), "the bird is grey")


def test_a_folder_of_captions_without_classes(tmp_path: Path) -> None:
    texts = {f"celeba-caption/{i}.txt": "The woman wears lipstick.\n" for i in range(3)}
    source = scan_source(write_files(tmp_path, {**texts, **png_files(*(f"images/{i}.png" for i in range(3)))}))
    assert by_id(source)["images/2.png"].caption == "The woman wears lipstick."
    assert by_id(source)["images/2.png"].tags is None


def test_texts_in_other_folders_are_not_taken_for_captions(tmp_path: Path) -> None:
    boxes = {f"labels/{name}.txt": "0 0.5 0.5 0.1 0.1\n" for name in "abcd"}
    images = png_files("images/cat/a.png", "images/cat/b.png", "images/dog/c.png", "images/dog/d.png")
    source = scan_source(write_files(tmp_path, {**boxes, **images}))
    assert source.kind == "classes" and all(item.caption is None for item in source.items)
