"""Metadata of image boards: JSON lines with ids, images named by id in folders that only divide them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files

IDS = (1000, 2001, 3002, 14000)


def record(id: int) -> dict[str, object]:
    tags = [{"name": f"{'blue' if id % 2 else 'red'}_hair", "category": "0"}, {"name": "someone", "category": "1"}]
    return {"id": str(id), "rating": "s", "file_ext": "png", "tags": tags}


@pytest.mark.parametrize("as_array", [False, True])
def test_danbooru_with_buckets_and_metadata(tmp_path: Path, as_array: bool) -> None:
    records = [record(id) for id in (*IDS, 99)]
    text = json.dumps(records) if as_array else "\n".join(map(json.dumps, records))
    images = png_files(*(f"512px/{id % 1000:04}/{id}.png" for id in (*IDS, 77)))
    source = scan_source(write_files(tmp_path, {**images, "metadata/2021000000000000.json": text}))
    assert tags_by_id(source) == {
        "512px/0000/1000.png": ("red hair",),
        "512px/0001/2001.png": ("blue hair",),
        "512px/0002/3002.png": ("red hair",),
        "512px/0000/14000.png": ("red hair",),
        "512px/0077/77.png": None,
    }
    assert source.kind == "booru"
    assert source.problems.counts() == {
        "tag-of-category artist": 4,
        "record-without-image": 1,
        "image-unlabelled record": 1,
    }


def test_tag_strings_and_lines_that_are_no_records(tmp_path: Path) -> None:
    lines = [json.dumps({"id": 5, "tag_string": "1girl blue_hair"}), "", "{broken", "[1]", json.dumps(record(6))]
    write_files(tmp_path, {**png_files("5.png", "6.png"), "posts.json": "\n".join(lines)})
    source = scan_source(tmp_path)
    assert tags_by_id(source) == {"5.png": ("1girl", "blue hair"), "6.png": ("red hair",)}
    assert source.problems.counts()["line-unreadable"] == 2


def test_ids_that_name_no_image_stop(tmp_path: Path) -> None:
    write_files(tmp_path, {**png_files("a/x.png", "b/y.png"), "posts.json": json.dumps(record(6))})
    with raises("no-row-matches", "posts.json"):
        scan_source(tmp_path)
