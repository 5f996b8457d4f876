"""Zips: any layout of a folder may be in one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_bytes, png_files, scan_source, tags_by_id, write_zip


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_zip_of_any_layout(tmp_path: Path, method: int) -> None:
    files: dict[str, str | bytes] = {"faces/tags.csv": "id,tags\na,smile\n", "faces/images/a.png": png_bytes(7, 64)}
    source = scan_source(write_zip(tmp_path / "a.zip", files | {"__MACOSX/faces/._a.png": b"x"}, method))
    assert source.kind == "tags" and tags_by_id(source) == {"images/a.png": ("smile",)}
    assert source.items[0].image.read() == png_bytes(7, 64)
    source = scan_source(write_zip(tmp_path / "b.zip", png_files("fox/1.png", "wolf/1.png"), method))
    assert source.kind == "classes" and tags_by_id(source) == {"fox/1.png": ("fox",), "wolf/1.png": ("wolf",)}
    metadata = {"metadata.jsonl": '{"file_name": "a.png", "label": 1}', "a.png": png_bytes()}
    assert tags_by_id(scan_source(write_zip(tmp_path / "c.zip", metadata, method))) == {"a.png": ("1",)}


def test_zip_bomb_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", {"x/1.png": bytes(80 << 20), "y/1.png": png_bytes()})
    bomb, good = scan_source(path).items
    with pytest.raises(OSError, match="refused"):
        bomb.image.read()
    assert good.image.read() == png_bytes()


def test_unreadable_members_are_named_with_the_reason(tmp_path: Path) -> None:
    files = png_files("x/1.png", "y/2.png")
    for method, name in ((zipfile.ZIP_BZIP2, "bzip2"), (zipfile.ZIP_LZMA, "lzma")):
        with raises("no-images", f"{name}.zip", f"packed by {name}", "x/1.png"):
            scan_source(write_zip(tmp_path / f"{name}.zip", files, method))
    data = bytearray(write_zip(tmp_path / "a.zip", files).read_bytes())
    at = data.rindex(b"PK\x01\x02")
    data[at + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    assert scan_source(tmp_path / "a.zip", "classes").problems.found == {"zip-member-encrypted": ["y/2.png"]}


def test_damaged_members_are_noticed(tmp_path: Path) -> None:
    images = {"x/1.png": png_bytes(1, 64), "y/1.png": png_bytes(2, 64)}
    path = write_zip(tmp_path / "a.zip", images, zipfile.ZIP_STORED)
    source = scan_source(path)
    data = bytearray(path.read_bytes())
    data[data.index(png_bytes(1, 64)) + 60] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged"):
        source.items[0].image.read()


def test_damaged_zip(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip", png_files("x/1.png", "y/2.png"))
    path.write_bytes(path.read_bytes()[:-30])
    with raises("file-damaged", "a.zip"):
        scan_source(path)
