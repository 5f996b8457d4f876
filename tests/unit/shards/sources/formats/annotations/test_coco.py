"""COCO: categories of objects as tags, and captions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.errors import raises
from support.source_files import by_id, png_files, scan_source, tags_by_id, write_files

IMAGES = [{"id": i, "file_name": f"{i:012}.png", "width": 4} for i in range(4)]
CATEGORIES = [{"id": 18, "name": "dog", "supercategory": "animal"}, {"id": 44, "name": "wine glass"}]


def instances(*pairs: tuple[int, int], images: Any = IMAGES) -> str:
    annotations = [{"id": i, "image_id": a, "category_id": c, "bbox": [0, 0, 1, 1]} for i, (a, c) in enumerate(pairs)]
    return json.dumps({"info": {}, "images": images, "annotations": annotations, "categories": CATEGORIES})


def captions(*pairs: tuple[int, str], images: Any = IMAGES) -> str:
    annotations = [{"id": i, "image_id": a, "caption": c} for i, (a, c) in enumerate(pairs)]
    return json.dumps({"info": {}, "images": images, "annotations": annotations})


def pngs(*numbers: int, folder: str = "train2017") -> dict[str, str | bytes]:
    return png_files(*(f"{folder}/{i:012}.png" for i in numbers))


def test_categories_are_tags_and_images_without_objects_have_none(tmp_path: Path) -> None:
    files = {"annotations/instances_train2017.json": instances((0, 18), (0, 44), (0, 18), (2, 44), (3, 99))}
    source = scan_source(write_files(tmp_path, {**files, **pngs(0, 1, 2, 3)}))
    assert tags_by_id(source) == {
        "train2017/000000000000.png": ("dog", "wine glass"),
        "train2017/000000000001.png": (),
        "train2017/000000000002.png": ("wine glass",),
        "train2017/000000000003.png": (),
    }
    assert source.kind == "coco" and source.problems.counts() == {"category-unknown": 1}


def test_the_first_of_several_captions_is_kept_beside_the_tags(tmp_path: Path) -> None:
    files = {
        "annotations/instances_train2017.json": instances((0, 18), (1, 18)),
        "annotations/captions_train2017.json": captions((0, "A dog runs."), (0, "Some dog."), (1, "A  dog\nsits.")),
        "annotations/person_keypoints_train2017.json": instances((0, 44)),
    }
    source = scan_source(write_files(tmp_path, {**files, **pngs(0, 1)}))
    first, second = (by_id(source)[f"train2017/00000000000{i}.png"] for i in range(2))
    assert (first.tags, first.caption) == (("dog",), "A dog runs.")
    assert (second.tags, second.caption) == (("dog",), "A dog sits.")
    assert source.problems.counts() == {"row-without-image": 4, "caption-not-first": 1}


def test_annotations_of_two_parts(tmp_path: Path) -> None:
    files = {
        "annotations/instances_train2017.json": instances((0, 18), images=IMAGES[:2]),
        "annotations/instances_val2017.json": instances((2, 44), images=IMAGES[2:]),
    }
    source = scan_source(write_files(tmp_path, {**files, **pngs(0, 1), **pngs(2, 3, folder="val2017")}))
    assert tags_by_id(source)["val2017/000000000002.png"] == ("wine glass",)


def test_roboflow_exports_a_file_in_each_part(tmp_path: Path) -> None:
    files = {f"{part}/_annotations.coco.json": instances((0, 18), images=IMAGES[:1]) for part in ("train", "valid")}
    source = scan_source(
        write_files(tmp_path, {**files, "train/000000000000.png": pngs(0)["train2017/000000000000.png"]})
    )
    assert tags_by_id(source) == {"train/000000000000.png": ("dog",)}


def test_damaged_annotations_are_named(tmp_path: Path) -> None:
    text = instances((0, 18))
    with raises("invalid-json", "instances.json"):
        scan_source(write_files(tmp_path, {"instances.json": text[:-20], **pngs(0)}))


def test_annotations_of_other_images_stop(tmp_path: Path) -> None:
    with raises("no-row-matches", "instances.json"):
        scan_source(write_files(tmp_path, {"instances.json": instances((0, 18)), **pngs(17)}))
