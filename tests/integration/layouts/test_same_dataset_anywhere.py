"""A layout gives the same labels in a folder, a zip and a tar, and in parts of the dataset."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, given, settings

from support.source_files import Files, png_bytes, scan_source, write_files, write_tar, write_zip

CLASSES = st.lists(
    st.text(st.sampled_from("abcdefgh XYZ_-äß猫"), min_size=2, max_size=8).map(str.strip).filter(lambda n: len(n) > 1),
    min_size=2,
    max_size=4,
    unique_by=lambda name: " ".join(name.lower().replace("_", " ").split()),
).filter(lambda names: all(name.strip("_ -") for name in names))
Labels = dict[str, tuple[str, ...] | None]


def _zip(folder: Path, files: Files) -> Path:
    return write_zip(folder / "a.zip", files)


def _tar(folder: Path, files: Files) -> Path:
    return write_tar(folder / "a.tar", files)


def _tgz(folder: Path, files: Files) -> Path:
    with tarfile.open(folder / "a.tgz", "w:gz") as out, tarfile.open(_tar(folder, files)) as archive:
        for member in archive:
            out.addfile(member, archive.extractfile(member))
    return folder / "a.tgz"


def _wrapped(folder: Path, files: Files) -> Path:
    return write_zip(folder / "b.zip", {f"download/{name}": data for name, data in files.items()})


def labels(src: Path, spool: Path) -> Labels:
    return {item.id: item.tags for item in scan_source(src, spool=spool).items}


@pytest.mark.parametrize("move", [_zip, _tar, _tgz, _wrapped])
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(classes=CLASSES, counts=st.lists(st.integers(1, 3), min_size=4, max_size=4))
def test_archives_give_the_labels_of_their_folder(
    tmp_path_factory: pytest.TempPathFactory, move: Callable[[Path, Files], Path], classes: list[str], counts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("same")
    files = {
        f"{name}/{i}.png": png_bytes(i) for name, count in zip(classes, counts, strict=False) for i in range(count)
    }
    expected = labels(write_files(folder / "src", files), folder / "spool")
    assert set(expected.values()) == {(" ".join(n.lower().replace("_", " ").split()),) for n in classes}
    assert labels(move(folder, files), folder / "spool") == expected


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    classes=CLASSES, parts=st.sampled_from([("train", "test"), ("Training", "Validation"), ("seg_train", "seg_val")])
)
def test_parts_give_the_labels_of_one_folder(
    tmp_path_factory: pytest.TempPathFactory, classes: list[str], parts: tuple[str, str]
) -> None:
    folder = tmp_path_factory.mktemp("parts")
    files = {f"{name}/{i}.png": png_bytes(i) for name in classes for i in range(2)}
    expected = labels(write_files(folder / "one", files), folder / "spool")
    moved = {f"{parts[int(name.endswith('1.png'))]}/{name}": data for name, data in files.items()}
    found = scan_source(write_files(folder / "several", moved), spool=folder / "spool")
    assert {item.id.partition("/")[2]: item.tags for item in found.items} == expected
    assert {item.part for item in found.items} == {"train", "test" if parts[1] == "test" else "validation"}
