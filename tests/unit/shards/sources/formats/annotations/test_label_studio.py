"""JSON exports of Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.errors import raises
from support.source_files import png_files, scan_source, tags_by_id, write_files


def task(path: str, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": path}, "annotations": [{"id": 7, "result": list(results), **more}]}


def choice(*words: str, name: str = "choice") -> dict[str, Any]:
    return {"type": "choices", "from_name": name, "to_name": "image", "value": {"choices": list(words)}}


def box(*words: str) -> dict[str, Any]:
    return {"type": "rectanglelabels", "from_name": "label", "value": {"x": 1, "rectanglelabels": list(words)}}


def test_one_choice_per_image_is_a_class(tmp_path: Path) -> None:
    tasks = [
        task("/data/upload/3/0123abcd-IMG%201.png", choice("Blue hair")),
        task("/data/local-files/?d=set/b.png", choice("Red hair")),
        task("s3://bucket/set/c.png", choice("Red hair")),
        task("https://example.org/d.png?token=1", choice("Blue hair"), was_cancelled=True),
    ]
    images = png_files("0123abcd-IMG 1.png", "b.png", "c.png", "d.png")
    source = scan_source(write_files(tmp_path, {**images, "project-1.json": json.dumps(tasks)}))
    assert tags_by_id(source) == {
        "0123abcd-IMG 1.png": ("blue hair",),
        "b.png": ("red hair",),
        "c.png": ("red hair",),
        "d.png": None,
    }
    assert source.one_class and source.kind == "label-studio"


def test_several_choices_and_boxes_are_tags(tmp_path: Path) -> None:
    tasks = [
        task("a.png", choice("blue hair", "smile"), choice("day", name="time"), box("cat"), box("cat"), box("dog")),
        task("b.png", choice("red hair")),
    ]
    source = scan_source(write_files(tmp_path, {**png_files("x/a.png", "x/b.png"), "export.json": json.dumps(tasks)}))
    assert tags_by_id(source) == {"x/a.png": ("blue hair", "smile", "day", "cat", "dog"), "x/b.png": ("red hair",)}


def test_the_name_before_an_upload_fits_too(tmp_path: Path) -> None:
    tasks = [
        task("/data/upload/1/0a1b2c3d-cat.png", choice("cat")),
        task("/data/upload/1/0a1b2c3e-dog.png", choice("dog")),
    ]
    source = scan_source(write_files(tmp_path, {**png_files("cat.png", "dog.png"), "e.json": json.dumps(tasks)}))
    assert tags_by_id(source) == {"cat.png": ("cat",), "dog.png": ("dog",)}


def test_the_short_form_of_an_export(tmp_path: Path) -> None:
    own = {"annotator": 1, "annotation_id": 2, "created_at": "2024-01-01", "updated_at": "2024-01-01", "lead_time": 3.2}
    tasks = [
        {"image": "/data/upload/3/a.png", "id": 1, "choice": {"choices": ["blue hair", "smile"]}, **own},
        {"image": "/data/upload/3/b.png", "id": 2, "choice": "red hair", **own},
    ]
    source = scan_source(write_files(tmp_path, {**png_files("a.png", "b.png"), "min.json": json.dumps(tasks)}))
    assert tags_by_id(source) == {"a.png": ("blue hair", "smile"), "b.png": ("red hair",)}


def test_tasks_of_other_images_stop(tmp_path: Path) -> None:
    with raises("no-row-matches", "e.json", "z.png"):
        scan_source(write_files(tmp_path, {**png_files("a.png"), "e.json": json.dumps([task("z.png", choice("x"))])}))
