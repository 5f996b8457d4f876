"""dataset.json, as StyleGAN's tools write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.errors import raises
from support.source_files import png_bytes, scan_source, tags_by_id, write_files, write_zip


def test_zip_with_classes(tmp_path: Path) -> None:
    labels = [["00000/img0.png", 3], ["00000/img1.png", 5], ["gone.png", 1], ["x"], ["00000/img2.png", None]]
    files = {f"00000/img{i}.png": png_bytes(i) for i in range(4)}
    source = scan_source(write_zip(tmp_path / "a.zip", files | {"dataset.json": json.dumps({"labels": labels})}))
    assert source.kind == "stylegan" and source.one_class
    assert list(tags_by_id(source).values()) == [("3",), ("5",), None, None]
    assert source.problems.counts() == {"row-without-image": 1, "entry-malformed": 1, "image-unlabelled row": 1}
    assert [item.image.read() for item in source.items] == [png_bytes(i) for i in range(4)]


def test_folder_with_vectors(tmp_path: Path) -> None:
    labels: list[list[Any]] = [["a.png", [0.5, -1]], ["b.png", [1, 2.5]], ["c.png", [1, "x"]]]
    images = {f"{name}.png": png_bytes() for name in "abc"}
    source = scan_source(write_files(tmp_path, images | {"dataset.json": json.dumps({"labels": labels})}))
    assert [item.vector for item in source.items] == [(0.5, -1.0), (1.0, 2.5), None]
    assert source.problems.counts() == {"label-unreadable": 1}
    write_files(tmp_path, {"dataset.json": json.dumps({"labels": [*labels[:2], ["c.png", [1]]]})})
    with raises("vector-lengths-differ", "c.png", "1 numbers", "a.png", "2"):
        scan_source(tmp_path)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("", "invalid-json"),
        ("[" * 100_000, "invalid-json"),
        ("[]", "table-malformed"),
        ('{"labels": [["z.png", 1]]}', "no-row-matches"),
    ],
)
def test_broken_dataset_json(tmp_path: Path, content: str, code: str) -> None:
    write_files(tmp_path, {"a.png": png_bytes(), "dataset.json": content})
    with raises(code, "dataset.json"):
        scan_source(tmp_path)


def test_without_labels_points_to_source_pictures(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png_bytes(), "dataset.json": '{"labels": null}'})
    with raises("source-unlabelled", "dataset.json", "--source pictures --schema OTHER/schema.yaml"):
        scan_source(tmp_path)
