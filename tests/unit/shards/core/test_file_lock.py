from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from shards.core import file_lock
from support.errors import raises


def test_lock_is_released_when_its_process_dies(tmp_path: Path) -> None:
    code = (
        "import sys, pathlib; from shards.core import file_lock\n"
        "with file_lock.locked(pathlib.Path(sys.argv[1]), 'busy'): print('held', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout and holder.stdout.readline() == "held\n"
        with raises("in-use", "busy"), file_lock.locked(tmp_path / "lock", "busy"):
            pass
        holder.kill()
        holder.wait()
        with file_lock.locked(tmp_path / "lock", "busy"):
            pass


def test_trap_lock_file_that_its_holder_removes_is_not_held_by_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process may open the file just before its holder removes it: the lock would be on a file without a name."""
    lock, opened = tmp_path / "lock", file_lock._open

    def removed_in_between(path: Path) -> int:
        monkeypatch.setattr(file_lock, "_open", opened)
        handle = opened(path)
        path.unlink()
        return handle

    monkeypatch.setattr(file_lock, "_open", removed_in_between)
    with file_lock.locked(lock, "busy"):
        with raises("in-use", "busy"), file_lock.locked(lock, "busy"):
            pass
        assert file_lock.try_lock(lock) is None
    handle = file_lock.try_lock(lock)
    assert handle is not None
    os.close(handle)


def test_a_lock_file_that_is_always_another_is_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "samestat", lambda *_: False)
    with raises("disk-error", tmp_path / "lock"):
        file_lock.try_lock(tmp_path / "lock")
