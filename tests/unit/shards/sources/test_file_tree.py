"""The files of a source: extensions, links, names that are not UTF-8, and references that other processes can read."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from PIL import Image

from shards.dataset.image_files import opened
from shards.sources import first_bytes
from shards.sources.item import ImageFile, Item
from support.errors import raises
from support.source_files import (
    png_bytes,
    png_files,
    scan_source,
    tags_by_id,
    write_files,
    write_parquet,
    write_tar,
    write_zip,
)


def test_image_extensions_that_are_not_read_are_counted(tmp_path: Path) -> None:
    names = ("a.png", "b.jfif", "c.JPE", "d.jxl", "x/e.JXL", "f.psd", "g.md", "h.py", ".i.jxl")
    src = tmp_path / "src"
    for name in names:
        (src / name).parent.mkdir(exist_ok=True, parents=True)
        Image.new("RGB", (4, 4)).save(src / name, "JPEG")
    (src / "tags.csv").write_text("id,tags\na,x\nb,x\nc,x\n")
    source = scan_source(src)
    assert len(source.items) == 3
    assert source.problems.found == {
        "extension-not-read .jxl": ["d.jxl", "x/e.JXL"],
        "extension-not-read .psd": ["f.psd"],
    }
    path = write_zip(tmp_path / "a.zip", {name: (src / name).read_bytes() for name in (*names, "tags.csv")})
    assert scan_source(path).problems.found == source.problems.found
    with raises("no-images", src / "x", ".jxl", "e.JXL"):
        scan_source(src / "x")


def test_links_are_followed_but_not_in_loops(tmp_path: Path) -> None:
    src, target = tmp_path / "src", write_files(tmp_path / "elsewhere", png_files("a.png"))
    write_files(src, {"tags.csv": "id,tags\na,smile\n"})
    (src / "images").symlink_to(target)
    (target / "loop").symlink_to(src)
    assert tags_by_id(scan_source(src)) == {"images/a.png": ("smile",)}


def test_names_that_are_not_utf8_are_kept_apart(tmp_path: Path) -> None:
    try:
        for number in (0xE9, 0xEA):
            (Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + bytes([number]) + b".png"))).write_bytes(png_bytes())
    except OSError:
        pytest.skip("this file system has UTF-8 names only")
    source = scan_source(tmp_path, "pictures")
    assert [item.id for item in source.items] == ["\N{REPLACEMENT CHARACTER}.png"]
    assert source.problems.counts() == {"file-name-repeated": 1}


def _contents(items: list[Item]) -> list[bytes]:
    return [item.image.read() for item in items]


@pytest.mark.parametrize("method", ["spawn", "fork"])
def test_images_can_be_read_in_other_processes(tmp_path: Path, method: str) -> None:
    files: dict[str, str | bytes] = {"x/1.png": png_bytes(1), "y/1.png": png_bytes(2)}
    table = write_parquet(tmp_path / "a.parquet", {"image": [png_bytes(1), png_bytes(2)]})
    sources = [
        scan_source(write_files(tmp_path / "folder", files)),
        scan_source(write_zip(tmp_path / "a.zip", files)),
        scan_source(write_tar(tmp_path / "a.tar", files)),
        scan_source(table, spool=tmp_path / "spool"),
    ]
    with ProcessPoolExecutor(1, mp_context=get_context(method)) as pool:
        for source in sources:
            assert pool.submit(_contents, source.items).result() == [png_bytes(1), png_bytes(2)]
            assert all(item.image.stamp() for item in source.items)


ODD = ("a/1", "a/2.jpg_large", "b/3.jpg?w=100&h=9", "b/4.png!small", "a/5.v2", "b/README", "b/notes.v2", "a/6.py")


def _odd_files() -> dict[str, str | bytes]:
    """Return images with odd names, two of which are texts, and source code that begins as an image does."""
    return {name: "P1 is a name" if name.endswith(("README", "notes.v2")) else png_bytes() for name in ODD}


@pytest.mark.parametrize("packed", ["", "zip", "tar"])
def test_trap_images_with_odd_endings_are_read(tmp_path: Path, packed: str) -> None:
    files = {**_odd_files(), "labels.csv": "id,label\n1,cat\n2,dog\n3,cat\n4.png,dog\n5,cat\n"}
    if packed:
        src = (write_zip if packed == "zip" else write_tar)(tmp_path / f"a.{packed}", files)
    else:
        src = write_files(tmp_path, files)
    source = scan_source(src)
    assert sorted(item.id for item in source.items) == sorted(ODD[:5])
    assert all(item.image.read() == png_bytes() for item in source.items)
    assert source.problems.counts()["image-by-content"] == 5
    classes = scan_source(src, "classes")
    assert {item.tags for item in classes.items} == {("a",), ("b",)}


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"])
def test_trap_images_of_all_formats_are_told_by_their_first_bytes(tmp_path: Path, form: str) -> None:
    for n in range(4):
        (tmp_path / "ab"[n % 2]).mkdir(exist_ok=True)
        Image.new("RGB", (4, 4)).save(tmp_path / "ab"[n % 2] / str(n), form)
    source = scan_source(tmp_path, "classes")
    assert len(source.items) == 4
    assert opened(source.items[0].image.read()).size == (4, 4)


def test_only_some_of_many_files_are_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []
    head = first_bytes.head

    def counted(file: ImageFile, count: int = 64) -> bytes:
        looked.append(file.name)
        return head(file, count)

    monkeypatch.setattr(first_bytes, "head", counted)
    monkeypatch.setattr(first_bytes, "_MOST", 150)
    files = {f"{n:04}": ImageFile(tmp_path / f"{n:04}", f"{n:04}") for n in range(300)}
    assert first_bytes.images_among(files) == ([], []) and len(looked) <= 64
    write_files(tmp_path, {name: png_bytes() if int(name) % 2 else "no image" for name in files})
    looked.clear()
    images, unseen = first_bytes.images_among(files)
    assert images and len(looked) == 150 == 300 - len(unseen)
    assert first_bytes.images_among({"a.jpg_1": files["0001"], "b.jpg.py": files["0003"]}) == (["a.jpg_1"], [])
