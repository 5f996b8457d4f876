"""What texts and numbers mean: tags or captions, classes or measurements; the same in every format."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from shards.sources.item import Source
from shards.sources.tag_cells.texts import looks_like_tags
from support.source_files import (
    CAPTIONS,
    merged,
    npy_bytes,
    png_bytes,
    png_files,
    scan_source,
    write_files,
    write_parquet,
    write_tar,
)

CLASSES = ([3.0, 0, "3", None, "3.0"], ["3", "0", "3", None, "3"])
MEASUREMENTS = ([2.5, 3, "3.0", None, 1e-9], [(2.5,), (3.0,), (3.0,), None, (1e-9,)])
WORDS = ([2.5, "1.5", "v2", "007", "1e3"], [(2.5,), "1.5", "v2", "007", "1e3"])


def labels_of(source: Source) -> list[Any]:
    """Return the one class or the vector of each image, in the order of their ids."""
    return [item.vector or (item.tags and item.tags[0]) for item in sorted(source.items, key=lambda item: item.id)]


@pytest.mark.parametrize(
    ("texts", "are_tags"),
    [
        (["blue hair, smile"] * 2 + ["red hair, smile"] * 3, True),
        ([f"tag{i}, tag{i + 1}, tag{i % 3}" for i in range(50)], True),
        (["smile", "smile, hat", "hat"] * 5, True),
        (["smile", "smile, hat", "smile"], True),
        (["red fox"] * 5, False),
        (list(CAPTIONS), False),
        (["a red fox", "a wolf", "a red fox"] * 5, False),
        (["a dog, in the rain", "a cat, in the sun"] * 5, False),
        ([], False),
    ],
)
def test_texts_that_look_like_tags(texts: list[str], are_tags: bool) -> None:
    assert looks_like_tags(texts) is are_tags


@pytest.mark.parametrize(("labels", "expected"), [CLASSES, MEASUREMENTS, WORDS])
def test_single_numbers_are_classes_if_all_are_whole(tmp_path: Path, labels: list[Any], expected: list[Any]) -> None:
    images = png_files(*(f"{i}.png" for i in range(5)))
    lines = [json.dumps({"file_name": f"{i}.png", "label": label}) for i, label in enumerate(labels)]
    metadata = write_files(tmp_path / "lines", images | {"metadata.jsonl": "\n".join(lines)})
    assert labels_of(scan_source(metadata)) == expected
    content = json.dumps({"labels": [[f"{i}.png", label] for i, label in enumerate(labels)]})
    assert labels_of(scan_source(write_files(tmp_path / "stylegan", images | {"dataset.json": content}))) == expected
    objects = {f"{i}.json": json.dumps({"label": label}) for i, label in enumerate(labels)}
    assert labels_of(scan_source(write_tar(tmp_path / "objects.tar", merged(images, objects)))) == expected
    values = {f"{i}.json": json.dumps(label) for i, label in enumerate(labels) if label is not None}
    assert labels_of(scan_source(write_tar(tmp_path / "values.tar", merged(images, values)))) == expected


def test_minus_one_among_classes_is_no_class(tmp_path: Path) -> None:
    images = png_files(*(f"{i}.png" for i in range(4)))
    labels = [-1, 0, 1, -1]
    lines = "\n".join(json.dumps({"file_name": f"{i}.png", "label": label}) for i, label in enumerate(labels))
    content = json.dumps({"labels": [[f"{i}.png", label] for i, label in enumerate(labels)]})
    for name, text in (("metadata.jsonl", lines), ("dataset.json", content)):
        source = scan_source(write_files(tmp_path / name, images | {name: text}))
        assert labels_of(source) == [None, "0", "1", None]
        assert sum(count for key, count in source.problems.counts().items() if "negative" in key) == 2


def test_whole_numbers_in_csv_and_arrays(tmp_path: Path) -> None:
    images = png_files(*(f"{i}.png" for i in range(3)))
    table = {"metadata.csv": "file_name,label\n0.png,3.0\n1.png,\n2.png,1.0\n"}
    assert labels_of(scan_source(write_files(tmp_path / "csv", images | table))) == ["3", None, "1"]
    arrays = {f"{i}.npy": npy_bytes(np.float32(i)) for i in range(3)}
    assert labels_of(scan_source(write_tar(tmp_path / "whole.tar", merged(images, arrays)))) == ["0", "1", "2"]
    arrays["1.npy"] = npy_bytes(np.float32(0.5))
    measured = scan_source(write_tar(tmp_path / "measured.tar", merged(images, arrays)))
    assert labels_of(measured) == [(0.0,), (0.5,), (2.0,)]
    vectors = {f"{i}.npy": npy_bytes([float(i)]) for i in range(3)}
    source = scan_source(write_tar(tmp_path / "vectors.tar", merged(images, vectors)))
    assert labels_of(source) == [(0.0,), (1.0,), (2.0,)]


def test_whole_numbers_in_parquet_stand_for_class_names(tmp_path: Path) -> None:
    columns = {"image": [png_bytes()] * 3, "label": [1.0, None, 0.0]}
    table = write_parquet(tmp_path / "a.parquet", columns)
    assert labels_of(scan_source(table, spool=tmp_path / "spool")) == ["1", None, "0"]
    names = {"label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    table = write_parquet(tmp_path / "b.parquet", columns, names)
    assert labels_of(scan_source(table, spool=tmp_path / "spool")) == ["dog", None, "cat"]


def test_names_of_class_folders_are_never_numbers(tmp_path: Path) -> None:
    source = scan_source(write_files(tmp_path, png_files("1.0/a.png", "1.5/b.png", "01/c.png")))
    assert labels_of(source) == ["01", "1.0", "1.5"]
