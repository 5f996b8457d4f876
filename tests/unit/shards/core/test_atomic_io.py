"""Files appear complete or not at all."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shards.core import atomic_io
from shards.core.errors import Failure
from support.errors import raises


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    atomic_io.write_json(path, {"a": 1})

    def fail_halfway() -> None:
        with atomic_io.atomic_writer(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]
    atomic_io.write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_disk_errors_are_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with raises("disk-error", tmp_path / "file" / "x", "Not a directory", kind=Failure):
        atomic_io.write_bytes(tmp_path / "file" / "x", b"")
    if Path("/dev/full").exists():
        with raises("disk-full", tmp_path / "x", kind=Failure), atomic_io.explain_disk_errors(tmp_path / "x"):
            Path("/dev/full").write_text("x")


def test_names_that_are_not_utf8_are_kept_in_json(tmp_path: Path) -> None:
    atomic_io.write_json(tmp_path / "x.json", {"name": "caf\udce9", "word": "é"})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"name": "caf\udce9", "word": "é"}


def test_a_directory_replaces_an_empty_directory_only(tmp_path: Path) -> None:
    for name in ("new", "empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "a").write_text("a")
    (tmp_path / "full" / "b").write_text("b")
    with raises("disk-error", tmp_path / "full", kind=Failure):
        atomic_io.move_directory(tmp_path / "new", tmp_path / "full")
    assert (tmp_path / "full" / "b").exists() and (tmp_path / "new" / "a").exists()
    atomic_io.move_directory(tmp_path / "new", tmp_path / "empty")
    assert (tmp_path / "empty" / "a").read_text() == "a" and not (tmp_path / "new").exists()


def test_an_output_path_must_be_unused_and_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert atomic_io.require_unused(Path("out")) == tmp_path / "out"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with raises("output-is-symlink", "link"):
        atomic_io.require_unused(Path("link"))
    (tmp_path / "file").write_text("")
    with raises("output-exists", "file"):
        atomic_io.require_unused(Path("file"))
    (tmp_path / "out").mkdir()
    assert atomic_io.require_unused(Path("out")) == tmp_path / "out"
    (tmp_path / "out" / "b.txt").write_text("")
    with raises("output-exists", "out", "b.txt"):
        atomic_io.require_unused(Path("out"))
