"""Datasets as benchmarks, image boards and downloaders hand them out, packed: each image keeps its own labels."""

from __future__ import annotations

import gzip
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from shards.dataset.dataset import Dataset
from shards.packing.pack import Pack, pack
from support.source_files import png_bytes, write_files

HAIR = ("blue_hair", "green_hair", "red_hair")
SHADES = (40, 120, 200)  # of the images of each class


def packed(tmp_path: Path, files: dict[str, str | bytes], **options: Any) -> Dataset:
    write_files(tmp_path / "src", files)
    return pack(Pack(src=tmp_path / "src", out=tmp_path / "out", workers=1, size=32, duplicates="keep", **options))


def words_by_shade(dataset: Dataset) -> dict[int, set[tuple[str, ...]]]:
    """Return the words of the images by the shade that they were made with."""
    found: dict[int, set[tuple[str, ...]]] = {}
    for row in range(len(dataset)):
        red = int(np.asarray(dataset[row].image)[16, 16, 0])
        shade = min(SHADES, key=lambda known: abs(known - red))
        found.setdefault(shade, set()).add(dataset[row].words)
    return found


def test_mnist_as_it_is_downloaded(tmp_path: Path) -> None:
    classes = np.arange(12, dtype=np.uint8) % 3
    images = np.broadcast_to(np.array(SHADES, np.uint8)[classes][:, None, None], (12, 28, 28))
    heads = struct.pack(">BBBB3I", 0, 0, 8, 3, 12, 28, 28), struct.pack(">BBBBI", 0, 0, 8, 1, 12)
    files: dict[str, str | bytes] = {
        "train-images-idx3-ubyte.gz": gzip.compress(heads[0] + images.tobytes()),
        "train-labels-idx1-ubyte.gz": gzip.compress(heads[1] + classes.tobytes()),
    }
    dataset = packed(tmp_path, files)
    assert dataset.schema.attributes[0].kind == "exclusive" and dataset.schema.values == ("0", "1", "2")
    assert words_by_shade(dataset) == {40: {("0",)}, 120: {("1",)}, 200: {("2",)}}


def test_arrays_of_floats_with_channels_first(tmp_path: Path) -> None:
    classes = np.arange(12) % 3
    images = np.zeros((12, 3, 32, 32), np.float32) + np.array(SHADES, np.float32)[classes][:, None, None, None] / 255
    out = io.BytesIO()
    np.savez(out, x_train=images, y_train=np.eye(3)[classes])
    assert words_by_shade(packed(tmp_path, {"sprites.npz": out.getvalue()}))[200] == {("2",)}


def test_danbooru_with_its_metadata_above_the_images(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    records = []
    for i in range(30):
        id = 1000 * (i + 1) + i % 5
        files[f"512px/{id % 1000:04}/{id}.png"] = png_bytes(SHADES[i % 3], 32)
        tags = [{"id": "1", "name": HAIR[i % 3], "category": "0"}, {"id": "2", "name": "painter", "category": "1"}]
        records.append(json.dumps({"id": str(id), "rating": "s", "tags": tags}))
    files["metadata/2021000000000000.json"] = "\n".join(records)
    dataset = packed(tmp_path, files)
    assert dataset.schema.attributes[0].name == "hair" and len(dataset.schema.attributes) == 1
    assert words_by_shade(dataset) == {40: {("blue hair",)}, 120: {("green hair",)}, 200: {("red hair",)}}


def test_gallery_dl_with_a_json_file_per_image(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    for i in range(24):
        files[f"danbooru/danbooru_{i}_ab.png"] = png_bytes(SHADES[i % 3], 32)
        post = {
            "id": i,
            "tag_string": f"{HAIR[i % 3]} painter",
            "tags_general": [HAIR[i % 3]],
            "tags_artist": ["painter"],
        }
        files[f"danbooru/danbooru_{i}_ab.png.json"] = json.dumps(post)
    assert words_by_shade(packed(tmp_path, files))[120] == {("green hair",)}


def test_coco_categories(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": f"{i:012}.png"} for i in range(12)]
    annotations = [{"id": i, "image_id": i, "category_id": 7 + i % 3, "bbox": [0, 0, 9, 9]} for i in range(12)]
    categories = [{"id": 7 + i, "name": name} for i, name in enumerate(("dog", "cat", "traffic light"))]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    files: dict[str, str | bytes] = {f"train2017/{i:012}.png": png_bytes(SHADES[i % 3], 32) for i in range(12)}
    dataset = packed(tmp_path, files | {"annotations/instances_train2017.json": json.dumps(content)})
    assert words_by_shade(dataset) == {40: {("dog",)}, 120: {("cat",)}, 200: {("traffic light",)}}


def test_coco_paths_of_another_computer(tmp_path: Path) -> None:
    images = [{"id": i, "file_name": rf"D:\photos\{i:012}.PNG"} for i in range(12)]
    annotations = [{"id": i, "image_id": i, "category_id": i % 3} for i in range(12)]
    categories = [{"id": i, "name": name} for i, name in enumerate(("dog", "cat", "bird"))]
    content = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
    files: dict[str, str | bytes] = {f"photos/{i:012}.png": png_bytes(SHADES[i % 3], 32) for i in range(12)}
    dataset = packed(tmp_path, files | {"instances.json": json.dumps(content)})
    assert words_by_shade(dataset) == {40: {("dog",)}, 120: {("cat",)}, 200: {("bird",)}}


def test_label_studio_export(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {}
    tasks = []
    for i in range(12):
        name = f"{i:08x}-IMG_{i:04}.png"
        files[name] = png_bytes(SHADES[i % 3], 32)
        result = {"from_name": "choice", "type": "choices", "value": {"choices": [HAIR[i % 3].replace("_", " ")]}}
        tasks.append({"id": i, "data": {"image": f"/data/upload/3/{name}"}, "annotations": [{"result": [result]}]})
    dataset = packed(tmp_path, files | {"project-3.json": json.dumps(tasks)})
    assert words_by_shade(dataset)[40] == {("blue hair",)}
