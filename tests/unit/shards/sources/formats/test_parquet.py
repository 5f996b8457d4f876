"""Parquet tables with images in them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.errors import raises
from support.source_files import CAPTIONS, png_bytes, scan_source, tags_by_id, write_files, write_parquet


def test_tables_written_by_hugging_face(tmp_path: Path) -> None:
    src, spool = tmp_path / "src", tmp_path / "spool"
    image = [{"bytes": png_bytes(i), "path": f"{i}.png"} for i in range(4)] + [{"bytes": None, "path": "x.png"}, None]
    features = {"label": {"names": ["Red_Fox", "wolf"], "_type": "ClassLabel"}, "image": {"_type": "Image"}}
    columns = {"image": image, "label": [0, 1, None, 2, 0, 1], "mood": ["glad", "sad", "", None, "", ""]}
    write_parquet(src / "train-0.parquet", columns, features)
    write_files(src, {"other/x.png": png_bytes(77)})
    with raises("pack-only-source", src):
        scan_source(src, "parquet")
    source = scan_source(src, "parquet", spool=spool, columns=("mood",))
    assert source.attributes[0].values == ("glad mood", "sad mood")
    assert source.problems.counts() == {"label-unreadable": 1, "row-without-image": 1}
    assert [item.id for item in source.items] == [f"train-0.parquet/{i}" for i in range(5)]
    assert [item.image.read() for item in source.items] == [png_bytes(shade) for shade in (0, 1, 2, 3, 77)]
    words = [item.tags for item in source.items]
    assert words == [("red fox", "glad mood"), ("wolf", "sad mood"), None, None, ("red fox",)]


def test_columns_of_bytes_tags_and_texts(tmp_path: Path) -> None:
    columns = {"img": [png_bytes(1), png_bytes(2)], "tags": [["hat"], []], "text": [CAPTIONS[0], None]}
    source = scan_source(write_parquet(tmp_path / "a.parquet", columns), spool=tmp_path / "spool")
    assert source.kind == "parquet"
    assert [(i.tags, i.caption) for i in source.items] == [(("hat",), CAPTIONS[0]), ((), None)]
    assert [item.image.read() for item in source.items] == [png_bytes(1), png_bytes(2)]


def test_spool_is_reused_until_the_tables_change(tmp_path: Path) -> None:
    path, spool = tmp_path / "a.parquet", tmp_path / "spool"
    write_parquet(path, {"image": [png_bytes(1), png_bytes(2)]})
    stamps = [item.image.stamp() for item in scan_source(path, spool=spool).items]
    written = (spool / "pictures.bin").stat().st_mtime_ns
    assert [item.image.stamp() for item in scan_source(path, spool=spool).items] == stamps
    assert (spool / "pictures.bin").stat().st_mtime_ns == written
    with (spool / "pictures.bin").open("ab") as file:
        file.write(b"more")
    write_parquet(path, {"image": [png_bytes(shade) for shade in (3, 4, 5)]})
    assert [item.image.read() for item in scan_source(path, spool=spool).items] == [png_bytes(s) for s in (3, 4, 5)]


@pytest.mark.parametrize(
    ("columns", "code", "named"),
    [
        ({"x": [1, 2]}, "no-image-column", "(x)"),
        ({"a": [b"x"], "b": [b"y"]}, "ambiguous-image-column", "(a, b)"),
        ({"image": [b"", None]}, "no-images", "a.parquet"),
    ],
)
def test_tables_without_images(tmp_path: Path, columns: dict[str, Any], code: str, named: str) -> None:
    with raises(code, "a.parquet", named):
        scan_source(write_parquet(tmp_path / "a.parquet", columns), spool=tmp_path / "spool")


def test_damaged_file(tmp_path: Path) -> None:
    path = write_parquet(tmp_path / "a.parquet", {"image": [png_bytes(1), png_bytes(2)]})
    path.write_bytes(path.read_bytes()[:-20])
    with raises("file-damaged", path):
        scan_source(path, spool=tmp_path / "spool")


@pytest.mark.parametrize("indexed", [False, True])
def test_arrow_files_as_save_to_disk_writes_them(tmp_path: Path, indexed: bool) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    features = {"image": {"_type": "Image"}, "label": {"names": ["cat", "dog"], "_type": "ClassLabel"}}
    images = [{"bytes": png_bytes(shade), "path": f"{shade}.png"} for shade in (10, 20, 30, 40)]
    table = pyarrow.table({"image": [*images, None], "label": [0, 1, 1, 0, 1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    src = tmp_path / "src"
    for name in ("train/data-00000-of-00001.arrow", "train/cache-12ab.arrow"):
        (src / name).parent.mkdir(parents=True, exist_ok=True)
        writer = pyarrow.ipc.new_file if indexed else pyarrow.ipc.new_stream
        with writer(str(src / name), table.schema) as out:
            out.write_table(table, max_chunksize=2)
    write_files(src, {"train/state.json": "{}", "train/dataset_info.json": "{}", "dataset_dict.json": "{}"})
    source = scan_source(src, spool=tmp_path / "spool")
    tags = tags_by_id(source)
    assert [tags[f"train/data-00000-of-00001.arrow/{i}"] for i in range(4)] == [("cat",), ("dog",), ("dog",), ("cat",)]
    assert source.items[2].image.read() == images[2]["bytes"]
    assert source.problems.counts() == {"row-without-image": 1}


def test_damaged_arrow_files_are_named(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    for number, data in enumerate((b"", b"ARROW1" + bytes(99), b"\xff\xff\xff\xff" + bytes(40), b"\1" * 99)):
        src = write_files(tmp_path / str(number), {"data.arrow": data})
        with raises("file-damaged", "data.arrow"):
            scan_source(src, spool=tmp_path / "spool")
