"""Text files next to images: tags or captions."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.source_files import CAPTIONS, by_id, png_bytes, png_files, scan_source, tags_by_id, write_files


def test_tags_and_problems(tmp_path: Path) -> None:
    write_files(tmp_path, {f"{i}.png": png_bytes() for i in range(6)})
    texts = {"0.txt": "1girl, Blue_Hair, smile", "1.txt": "1girl, red hair", "2.png.txt": "1girl, smile\nhat"}
    write_files(tmp_path, {**texts, "3.caption": "", "4.txt": b"caf\xe9", "readme.txt": "nothing"})
    source = scan_source(tmp_path)
    assert source.kind == "sidecars" and not source.one_class
    assert tags_by_id(source) == {
        "0.png": ("1girl", "blue hair", "smile"),
        "1.png": ("1girl", "red hair"),
        "2.png": ("1girl", "smile", "hat"),
        "3.png": None,
        "4.png": None,
        "5.png": None,
    }
    assert source.problems.found == {
        "text-file-not-utf8": ["4.txt"],
        "text-file-without-image": ["readme.txt"],
        "image-unlabelled text": ["4.png", "5.png"],
    }


def test_captions_are_recognised_and_either_kind_can_be_forced(tmp_path: Path) -> None:
    write_files(tmp_path, png_files("a.png", "b.png"))
    write_files(tmp_path, {"a.txt": CAPTIONS[0], "b.txt": f"{CAPTIONS[1]}\n"})
    captions = {item.id: (item.tags, item.caption) for item in scan_source(tmp_path).items}
    assert captions == {"a.png": (None, CAPTIONS[0]), "b.png": (None, CAPTIONS[1])}
    forced = {item.id: (item.tags, item.caption) for item in scan_source(tmp_path, labels="tags").items}
    assert forced["a.png"] == (("a red fox sits in the snow.",), None)
    write_files(tmp_path, {"a.txt": "fox, snow", "b.txt": "fox, lake"})
    assert tags_by_id(scan_source(tmp_path)) == {"a.png": ("fox", "snow"), "b.png": ("fox", "lake")}
    assert [item.caption for item in scan_source(tmp_path, labels="caption").items] == ["fox, snow", "fox, lake"]


def test_pipes_among_the_files_do_not_block(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.txt": "hat, wig", **png_files("a.png", "c.png")})
    os.mkfifo(tmp_path / "b.png")
    os.mkfifo(tmp_path / "c.txt")
    source = scan_source(tmp_path)
    assert source.problems.counts()["text-file-unreadable"] == 1
    with pytest.raises(OSError, match="not a regular file"):
        by_id(source)["b.png"].image.read()


def test_files_too_large_for_an_image_are_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, {"a.png": png_bytes(1), "a.txt": "hat"})
    with (tmp_path / "big.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(OSError, match="1,099,511,627,776"):
        by_id(scan_source(tmp_path))["big.png"].image.read()
