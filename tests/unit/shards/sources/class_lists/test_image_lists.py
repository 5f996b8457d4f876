"""The images of each class in a list of their own, or in one JSON file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files

NAMES = [f"images/{at:03}.png" for at in range(24)]
CLASSES = {kind: [name for at, name in enumerate(NAMES) if at % 3 == n] for n, kind in enumerate(("cat", "dog", "owl"))}


def write_lists(folder: Path, classes: dict[str, list[str]]) -> Path:
    """Write images, and a list of files for each class."""
    lists = {f"{kind}.txt": "".join(f"{name}\n" for name in names) for kind, names in classes.items()}
    return write_files(folder, png_files(*NAMES) | lists)


def test_a_list_of_images_for_each_class(tmp_path: Path) -> None:
    source = scan_source(write_lists(tmp_path, CLASSES))
    assert source.one_class and tags_by_id(source)["images/004.png"] == ("dog",)
    assert "cat.txt, dog.txt, owl.txt" in source.evidence


def test_an_image_in_several_lists_has_tags(tmp_path: Path) -> None:
    source = scan_source(write_lists(tmp_path, CLASSES | {"smile": NAMES[:10]}))
    assert tags_by_id(source)["images/004.png"] == ("dog", "smile")
    assert tags_by_id(source)["images/013.png"] == ("dog",)


def test_lists_of_parts_are_no_classes(tmp_path: Path) -> None:
    write_lists(tmp_path, {"train": NAMES[:15], "test": NAMES[15:]})
    with raises("no-label-column"):
        scan_source(tmp_path)
    classes = {
        f"{kind}_{part}": names[at::2] for kind, names in CLASSES.items() for at, part in ((0, "train"), (1, "val"))
    }
    items = {item.id: item for item in scan_source(write_lists(tmp_path, classes)).items}
    assert items["images/003.png"].tags == ("cat",) and items["images/003.png"].part == "validation"


@pytest.mark.parametrize("kinds", [("cat", "dog", "owl"), ("10", "11", "12")])
def test_an_object_of_classes_with_their_images(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    classes = dict(zip(kinds, CLASSES.values(), strict=True))
    source = scan_source(write_files(tmp_path, png_files(*NAMES) | {"labels.json": json.dumps(classes)}))
    assert tags_by_id(source)["images/004.png"] == (kinds[1],) and all(item.tags for item in source.items)


def test_an_object_of_tags_with_their_images(tmp_path: Path) -> None:
    files = {"labels.json": json.dumps(CLASSES | {"smile": NAMES[:10]})}
    source = scan_source(write_files(tmp_path, png_files(*NAMES) | files))
    assert tags_by_id(source)["images/004.png"] == ("dog", "smile")


def test_an_object_that_repeats_the_folders_does_not_win_over_them(tmp_path: Path) -> None:
    names = [f"{kind}_pie/{at}.png" for at in range(10) for kind in ("apple", "steak")]
    classes = {kind: [name for name in names[:16] if name.startswith(kind)] for kind in ("apple_pie", "steak_pie")}
    source = scan_source(write_files(tmp_path, png_files(*names) | {"meta/train.json": json.dumps(classes)}))
    assert source.kind == "classes" and tags_by_id(source)["apple_pie/9.png"] == ("apple pie",)


def test_an_object_of_classes_in_each_part(tmp_path: Path) -> None:
    parts = {"train": {kind: names[:5] for kind, names in CLASSES.items()}}
    parts["test"] = {kind: names[5:] for kind, names in CLASSES.items()}
    source = scan_source(write_files(tmp_path, png_files(*NAMES) | {"labels.json": json.dumps(parts)}))
    assert {item.part for item in source.items} == {"train", "test"}
    assert tags_by_id(source)["images/022.png"] == ("dog",)
