"""Sources in formats of other programs: named for what they are, with the way to convert them."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from support.errors import raises
from support.source_files import png_files, scan_source, write_files, write_parquet

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"ab" * 32 + b"\nsize 1469461\n"


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("shard.00000.mds", "MosaicML"),
        ("chunk-0-0.bin", "litdata"),
        ("ds-r06.tfrecords", "TFRecord"),
        ("imagenet-train.tfrecord-00000-of-00010", "TFRecord"),
        ("data.mdb", "LMDB"),
        ("train.beton", "FFCV"),
        ("train.rec", "MXNet"),
        ("model.safetensors", "Safetensors"),
        ("images.rar", "unpack"),
        ("images.7z", "unpack"),
        ("clips/a.mp4", "ffmpeg"),
    ],
)
def test_formats_of_other_programs_are_named(tmp_path: Path, name: str, named: str) -> None:
    write_files(tmp_path, {name: b"\1" * 999, "index.json": "{}", "README.md": "data"})
    with raises("foreign-format", name, named):
        scan_source(tmp_path)


def test_an_archive_is_known_by_its_content(tmp_path: Path) -> None:
    with raises("foreign-format", "images.bin", "unpack"):
        scan_source(write_files(tmp_path, {"images.bin": b"Rar!\x1a\x07\x01\x00" + b"\0" * 99}))


def test_a_single_file_of_another_program_is_named(tmp_path: Path) -> None:
    write_files(tmp_path, {"train.beton": b"\1" * 99})
    with raises("foreign-format", tmp_path / "train.beton", "FFCV"):
        scan_source(tmp_path / "train.beton")


@pytest.mark.parametrize("name", ["data_batch_1", "test_batch", "faces.pkl", "faces.pt", "without-extension"])
def test_pickles_are_named_with_a_script_and_never_read(tmp_path: Path, name: str) -> None:
    with raises("pickled-source", name, "import numpy as np", "np.savez") as caught:
        scan_source(write_files(tmp_path, {name: pickle.dumps({"images": [1]})}))
    assert len([line for line in str(caught.value).splitlines() if line.startswith("    ")]) == 3


@pytest.mark.parametrize("names", [("cat/0.jpg", "cat/1.jpg", "dog/0.jpg"), ("data/train-0.parquet",), ("a-0000.tar",)])
def test_pointers_of_git_lfs_are_named(tmp_path: Path, names: tuple[str, ...]) -> None:
    with raises("git-lfs-pointers", names[0], "git lfs pull"):
        scan_source(write_files(tmp_path, dict.fromkeys(names, POINTER)))


def test_a_table_that_is_a_pointer_is_named(tmp_path: Path) -> None:
    with raises("git-lfs-pointers", "tags.csv"):
        scan_source(write_files(tmp_path, {**png_files("a.png"), "tags.csv": POINTER}))


def test_images_with_a_few_pointers_among_them_are_read(tmp_path: Path) -> None:
    write_files(tmp_path, {**png_files("a/0.png", "a/1.png", "b/0.png"), "b/1.png": POINTER})
    assert len(scan_source(tmp_path).items) == 4


def test_a_table_of_addresses_is_named_with_the_command_that_downloads(tmp_path: Path) -> None:
    write_parquet(tmp_path / "part-0.parquet", {"URL": ["https://example.org/0.jpg"], "TEXT": ["a red car"]})
    with raises("images-not-downloaded", "img2dataset", "--url_col URL", "--caption_col TEXT"):
        scan_source(tmp_path, spool=tmp_path / "spool")


def test_an_empty_folder_has_no_images(tmp_path: Path) -> None:
    with raises("no-images", tmp_path):
        scan_source(tmp_path)
