"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from shards.core import atomic_io
from shards.core.errors import Failure, UserError
from shards.core.version import revision


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    atomic_io.write_json(path, {"a": 1})

    def fail_halfway() -> None:
        with atomic_io.replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == '{\n "a": 1\n}\n' and list(tmp_path.iterdir()) == [path]
    atomic_io.write_bytes(path, b"new")
    assert path.read_bytes() == b"new" and list(tmp_path.iterdir()) == [path]


def test_what_the_disk_refuses_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Failure, match="could not be written: Not a directory"):
        atomic_io.write_bytes(tmp_path / "file" / "x", b"")
    if Path("/dev/full").exists():
        with pytest.raises(Failure, match=r"the disk is full: .*make room"), atomic_io.explained(tmp_path / "x"):
            Path("/dev/full").write_text("x")


def test_names_that_are_no_utf_8_are_kept_in_json(tmp_path: Path) -> None:
    atomic_io.write_json(tmp_path / "x.json", {"name": "caf\udce9", "word": "é"})
    assert json.loads((tmp_path / "x.json").read_bytes()) == {"name": "caf\udce9", "word": "é"}


def test_a_folder_takes_an_empty_name_only(tmp_path: Path) -> None:
    for name in ("new", "empty", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "new" / "a").write_text("a")
    (tmp_path / "full" / "b").write_text("b")
    with pytest.raises(Failure, match="full could not be written"):
        atomic_io.move_directory(tmp_path / "new", tmp_path / "full")
    assert (tmp_path / "full" / "b").exists() and (tmp_path / "new" / "a").exists()
    atomic_io.move_directory(tmp_path / "new", tmp_path / "empty")
    assert (tmp_path / "empty" / "a").read_text() == "a" and not (tmp_path / "new").exists()


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from shards.core import atomic_io\n"
        "with atomic_io.locked(pathlib.Path(sys.argv[1]), 'busy'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="busy"), atomic_io.locked(tmp_path / "lock", "busy"):
            pass
        holder.kill()
        holder.wait()
        with atomic_io.locked(tmp_path / "lock", "busy"):
            pass


def test_a_vacant_place_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert atomic_io.vacant(Path("out")) == tmp_path / "out"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a symlink; give the folder"):
        atomic_io.vacant(Path("link"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="is there already, and no folder"):
        atomic_io.vacant(Path("file"))


def test_the_revision_is_the_checkouts_commit(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    git = tmp_path / ".git"
    (git / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "shards").mkdir()
    monkeypatch.setattr("shards.core.version._CHECKOUT", tmp_path)
    assert revision() is None
    (git / "HEAD").write_text("ref: refs/heads/main\n")
    assert revision() is None  # no commit yet
    (git / "packed-refs").write_text("# pack-refs\n" + "a" * 40 + " refs/heads/main\n")
    assert revision() == "a" * 12
    (git / "refs" / "heads" / "main").write_text("b" * 40 + "\n")
    assert revision() == "b" * 12
    (git / "HEAD").write_text("c" * 40 + "\n")
    assert revision() == "c" * 12
    monkeypatch.setattr("shards.core.version._CHECKOUT", tmp_path / "site-packages")
    assert revision() is None
