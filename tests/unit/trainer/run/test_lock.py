"""The run lock: one writer per run directory; it is taken over from dead processes only."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from shards.core import text_files
from support.errors import raises
from trainer.run import lock
from trainer.run.lock import RunLock


def write_lock(run: Path, silent: float = 0.0, **fields: object) -> None:
    (run / "lock.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": None, "job": None} | fields))
    then = time.time() - silent
    os.utime(run / "lock.json", (then, then))


def test_lock_is_held_and_released(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
        with raises("in-use", f"process {os.getpid()}"), RunLock(tmp_path):
            pass
    assert not (tmp_path / "lock.json").exists()
    with RunLock(tmp_path):
        pass


def test_ctrl_c_keeps_the_lock_until_the_process_ends(tmp_path: Path) -> None:
    """A thread may still be writing a checkpoint."""
    with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
        raise KeyboardInterrupt
    with raises("in-use", f"process {os.getpid()}"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.STALE_AFTER + 20)
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / "lock.json").exists()


def test_lock_is_taken_over_from_a_dead_process(tmp_path: Path) -> None:
    code = """
import os, pathlib, sys
from trainer.run.lock import RunLock
RunLock(pathlib.Path(sys.argv[1])).__enter__()
os._exit(9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / "lock.json").exists()
    with RunLock(tmp_path):
        pass


def here(**fields: object) -> dict[str, Any]:
    """Return the lock of a process on this machine, with some fields replaced."""
    return {"host": socket.gethostname(), "machine": lock._machine(), "pid": os.getpid(), **fields}


def test_reused_process_id_does_not_hold_the_lock(tmp_path: Path) -> None:
    write_lock(tmp_path, **here(started="1"))
    with RunLock(tmp_path):
        pass


def test_setting_the_clock_does_not_release_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day at which a process started moves with the clock."""
    with RunLock(tmp_path):
        monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 3600)
        with raises("in-use", f"process {os.getpid()}"), RunLock(tmp_path):
            pass


@pytest.mark.skipif(not lock._machine(), reason="no Linux: machines are told apart by their names")
def test_container_with_the_same_host_name_counts_as_alive_while_its_heartbeat_is_fresh(tmp_path: Path) -> None:
    """Its process ids belong to another process table."""
    write_lock(tmp_path, silent=lock.STALE_AFTER - 20, **here(machine="another", pid=2**22 + 1, started="1"))
    with raises("in-use"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.STALE_AFTER + 20, **here(machine="another", started="1"))
    with RunLock(tmp_path):
        pass


def test_unreadable_disk_does_not_release_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with RunLock(tmp_path) as lock:
        monkeypatch.setattr(text_files, "read_json", refuse)
        assert lock.held()
        monkeypatch.setattr(Path, "unlink", refuse)  # nor does it hide what ended the run


def test_other_host_counts_as_alive_while_its_heartbeat_is_fresh(tmp_path: Path) -> None:
    write_lock(tmp_path, silent=lock.STALE_AFTER - 20)
    with raises("in-use", "elsewhere"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.STALE_AFTER + 20)
    with RunLock(tmp_path):
        pass


def test_requeued_job_takes_the_lock_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lock(tmp_path, job="77")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with raises("in-use"), RunLock(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with RunLock(tmp_path):
        pass


def test_two_steps_of_one_job_cannot_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    write_lock(tmp_path, job="77")
    with raises("in-use", "elsewhere"), RunLock(tmp_path):
        pass
    (tmp_path / "lock.json").unlink()
    with RunLock(tmp_path), raises("in-use", f"process {os.getpid()}"), RunLock(tmp_path):
        pass


def test_former_holder_notices_the_takeover_and_keeps_the_new_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        assert lock.held()
        write_lock(tmp_path)
        assert not lock.held()
    assert json.loads((tmp_path / "lock.json").read_text())["host"] == "elsewhere"


def test_copy_of_a_run_that_is_being_trained_is_not_locked(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run"):
        shutil.copytree(tmp_path / "run", tmp_path / "copy")
        with RunLock(tmp_path / "copy"):
            pass
        (tmp_path / "link").symlink_to(tmp_path / "run")
        with raises("in-use"), RunLock(tmp_path / "link"):
            pass


def test_moved_run_is_still_locked_and_its_former_trainer_says_where_it_is(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    with RunLock(tmp_path / "run") as lock:
        (tmp_path / "run").rename(tmp_path / "moved")
        assert not lock.held()
        assert f"moved to {tmp_path / 'moved'}" in lock.loss()
        with raises("in-use", f"process {os.getpid()}"), RunLock(tmp_path / "moved"):
            pass
        shutil.rmtree(tmp_path / "moved")
        assert "removed" in lock.loss()


def test_takeover_is_named(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        write_lock(tmp_path)
        assert "taken over" in lock.loss()


DAMAGED = ["", "{", "[]", "{}", "[" * 100_000, '{"host": "x", "pid": "abc"}', '{"host": 1, "pid": 1}', "\xff"]


@pytest.mark.parametrize("content", [*DAMAGED, f'{{"host": "x", "pid": {"9" * 400}}}', '{"host": "x", "pid": -1}'])
def test_truncated_lock_file_does_not_hold_the_lock(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock.json").write_text(content)
    with RunLock(tmp_path):
        pass
