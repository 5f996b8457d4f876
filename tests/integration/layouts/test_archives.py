"""Archives that are read like folders, and tars of samples as systems pack them."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import zipfile
from pathlib import Path
from typing import Literal

import pytest

from support.errors import raises
from support.source_files import Files, png_bytes, png_files, scan_source, tags_by_id, write_files, write_tar, write_zip

FLOWERS = png_files("flowers/daisy/1.png", "flowers/daisy/2.png", "flowers/rose/3.png")
DAISIES = {"daisy/1.png": ("daisy",), "daisy/2.png": ("daisy",), "rose/3.png": ("rose",)}


def compressed(path: Path, files: Files, mode: Literal["gz", "bz2", "xz"]) -> Path:
    plain = write_tar(path.with_suffix(".plain"), files)
    packed = {"gz": gzip, "bz2": bz2, "xz": lzma}[mode].compress(plain.read_bytes())
    path.write_bytes(packed)
    plain.unlink()
    return path


def test_tars_of_class_folders(tmp_path: Path) -> None:
    assert tags_by_id(scan_source(write_tar(tmp_path / "flowers.tar", FLOWERS))) == DAISIES
    endings: dict[str, Literal["gz", "bz2", "xz"]] = {"tgz": "gz", "tar.bz2": "bz2", "tar.xz": "xz"}
    for ending, mode in endings.items():
        path = compressed(tmp_path / f"flowers.{ending}", FLOWERS, mode)
        source = scan_source(path, spool=tmp_path / "spool")
        assert source.kind == "classes" and tags_by_id(source) == DAISIES
        assert source.items[0].image.read() == png_bytes()


def test_tar_with_a_table(tmp_path: Path) -> None:
    files: Files = png_files("faces/1.png", "faces/2.png") | {"faces/tags.csv": "id,tags\n1,blue hair\n2,red hair\n"}
    source = scan_source(write_tar(tmp_path / "faces.tar", files))
    assert source.kind == "tags" and tags_by_id(source) == {"1.png": ("blue hair",), "2.png": ("red hair",)}


def test_folder_that_holds_one_archive(tmp_path: Path) -> None:
    src = tmp_path / "src"
    src.mkdir()
    write_zip(src / "download.zip", FLOWERS)
    assert tags_by_id(scan_source(src)) == DAISIES
    write_files(src, {"README.md": "flowers"})
    assert tags_by_id(scan_source(src)) == DAISIES


def test_archives_named_like_parts_or_classes(tmp_path: Path) -> None:
    parts = tmp_path / "parts"
    parts.mkdir()
    write_zip(parts / "train.zip", FLOWERS)
    write_tar(parts / "test.tar", png_files("test/rose/9.png", "test/daisy/8.png"))
    source = scan_source(parts)
    assert {item.id: (item.tags, item.part) for item in source.items} == {
        "train/daisy/1.png": (("daisy",), "train"),
        "train/daisy/2.png": (("daisy",), "train"),
        "train/rose/3.png": (("rose",), "train"),
        "test/daisy/8.png": (("daisy",), "test"),
        "test/rose/9.png": (("rose",), "test"),
    }
    classes = tmp_path / "classes"
    classes.mkdir()
    for name in ("fox", "wolf"):
        write_zip(classes / f"{name}.zip", png_files("1.png", "2.png"))
    assert {item.tags for item in scan_source(classes).items} == {("fox",), ("wolf",)}


def test_archive_beside_its_own_content_is_not_read(tmp_path: Path) -> None:
    write_files(tmp_path, FLOWERS)
    write_zip(tmp_path / "flowers.zip", FLOWERS)
    source = scan_source(tmp_path)
    assert len(source.items) == 3 and source.problems.found == {"archive-not-read": ["flowers.zip"]}


class _Encoded(zipfile.ZipInfo):
    """A zip member whose name is not UTF-8, and does not say so, as old archivers write it."""

    encoding = "gbk"

    def _encodeFilenameFlags(self) -> tuple[bytes, int]:
        return self.filename.encode(self.encoding), self.flag_bits & ~0x800


def write_encoded_zip(path: Path, names: list[str], encoding: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            info = _Encoded(name)
            info.encoding = encoding
            archive.writestr(info, png_bytes())
    return path


@pytest.mark.parametrize(
    ("encoding", "one", "two"),
    [
        ("gb18030", "数据/蓝", "数据/红"),
        ("cp949", "데이터/고양이", "데이터/강아지"),
        ("big5", "資料/藍", "資料/紅"),
        ("cp932", "データ/あおいかみ", "データ/あかいかみ"),
        ("cp437", "data/café", "data/señor"),
        ("utf-8", "数据/蓝", "数据/红"),
    ],
)
def test_names_of_old_zips(tmp_path: Path, encoding: str, one: str, two: str) -> None:
    path = write_encoded_zip(tmp_path / "a.zip", [f"{folder}/{i}.png" for folder in (one, two) for i in "12"], encoding)
    source = scan_source(path)
    assert {item.tags for item in source.items} == {(one.rpartition("/")[2],), (two.rpartition("/")[2],)}
    assert source.problems.counts()[f"name-decoded {encoding}"] == 4
    assert all(item.image.read() == png_bytes() for item in source.items)


def test_names_in_an_unclear_encoding_are_a_question(tmp_path: Path) -> None:
    path = write_encoded_zip(tmp_path / "a.zip", ["кошка/1.png", "собака/2.png"], "cp866")
    with raises("encoding-unclear", "--encoding", "cp866 (кошка/1.png)"):
        scan_source(path)
    assert {item.tags for item in scan_source(path, encoding="cp866").items} == {("кошка",), ("собака",)}
    with raises("encoding-unclear", "--encoding ascii"):
        scan_source(path, encoding="ascii")


def test_tar_packed_on_a_mac(tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {"./._.DS_Store": b"\0\5\26\7", "./.DS_Store": b"x"}
    for i in range(4):
        files |= {f"./._{i}.png": b"\0\5\26\7", f"./{i}.png": png_bytes(i)}
        files |= {f"./._{i}.cls": b"\0\5\26\7", f"./{i}.cls": str(i % 2)}
    source = scan_source(write_tar(tmp_path / "a.tar", files))
    assert tags_by_id(source) == {"a/0": ("0",), "a/1": ("1",), "a/2": ("0",), "a/3": ("1",)}
    assert source.problems.counts() == {"junk-left-out": 4}


def test_keys_with_dots(tmp_path: Path) -> None:
    keys = [f"scan 22.{i:02} (v1.{i % 3})" for i in range(6)]
    files: dict[str, str | bytes] = {}
    for i, key in enumerate(keys):
        files |= {f"{key}.png": png_bytes(i), f"{key}.json": json.dumps({"label": ("blue", "red")[i % 2]})}
    source = scan_source(write_tar(tmp_path / "a.tar", files))
    assert tags_by_id(source) == {f"a/{key}": (("blue", "red")[i % 2],) for i, key in enumerate(keys)}
    assert [item.image.read() for item in source.items] == [png_bytes(i) for i in range(6)]
