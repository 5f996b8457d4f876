"""One writer a run directory, taken over from the dead and never from the living."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from shards.core.errors import UserError
from trainer.run import lock
from trainer.run.lock import RunLock


def write_lock(run: Path, silent: float = 0.0, **fields: object) -> None:
    (run / "lock.json").write_text(json.dumps({"host": "elsewhere", "pid": 1, "started": None, "job": None} | fields))
    then = time.time() - silent
    os.utime(run / "lock.json", (then, then))


def test_held_and_freed(tmp_path: Path) -> None:
    with RunLock(tmp_path):
        assert json.loads((tmp_path / "lock.json").read_text())["pid"] == os.getpid()
        with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"), RunLock(tmp_path):
            pass
    assert not (tmp_path / "lock.json").exists()
    with RunLock(tmp_path):
        pass


def test_ctrl_c_leaves_it_to_the_end_of_the_process(tmp_path: Path) -> None:
    """A checkpoint may still be under way in a thread."""
    with pytest.raises(KeyboardInterrupt), RunLock(tmp_path):
        raise KeyboardInterrupt
    with pytest.raises(UserError, match=f"is being written by process {os.getpid()}"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.SILENCE + 20)
    with pytest.raises(ZeroDivisionError), RunLock(tmp_path):
        raise ZeroDivisionError
    assert not (tmp_path / "lock.json").exists()


def test_taken_over_from_a_dead_process(tmp_path: Path) -> None:
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
    """What a process of this machine writes, with some of it changed."""
    return {"host": socket.gethostname(), "machine": lock._machine(), "pid": os.getpid(), **fields}


def test_a_number_that_another_process_has_now_is_no_holder(tmp_path: Path) -> None:
    write_lock(tmp_path, **here(started="1"))
    with RunLock(tmp_path):
        pass


def test_a_clock_that_is_set_does_not_free_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The time of day at which a process began moves with the clock."""
    with RunLock(tmp_path):
        monkeypatch.setattr(psutil.Process, "create_time", lambda _: time.time() + 3600)
        with pytest.raises(UserError, match=f"process {os.getpid()}"), RunLock(tmp_path):
            pass


@pytest.mark.skipif(not lock._machine(), reason="no Linux: machines are told apart by their names")
def test_a_container_with_this_machines_name_counts_as_alive_until_it_is_silent(tmp_path: Path) -> None:
    """Its process ids mean nothing here."""
    write_lock(tmp_path, silent=lock.SILENCE - 20, **here(machine="another", pid=2**22 + 1, started="1"))
    with pytest.raises(UserError, match="is being written"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.SILENCE + 20, **here(machine="another", started="1"))
    with RunLock(tmp_path):
        pass


def test_a_disk_that_does_not_answer_takes_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with RunLock(tmp_path) as lock:
        monkeypatch.setattr(Path, "read_text", refuse)
        assert lock.held()
        monkeypatch.setattr(Path, "unlink", refuse)  # nor does it hide what ended the run


def test_another_host_counts_as_alive_until_it_is_silent(tmp_path: Path) -> None:
    write_lock(tmp_path, silent=lock.SILENCE - 20)
    with pytest.raises(UserError, match="on elsewhere"), RunLock(tmp_path):
        pass
    write_lock(tmp_path, silent=lock.SILENCE + 20)
    with RunLock(tmp_path):
        pass


def test_the_same_job_takes_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_lock(tmp_path, job="77")
    monkeypatch.setenv("SLURM_JOB_ID", "78")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    with pytest.raises(UserError), RunLock(tmp_path):
        pass
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    with RunLock(tmp_path):
        pass


def test_two_steps_of_one_job_do_not_share_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    write_lock(tmp_path, job="77")
    with pytest.raises(UserError, match="on elsewhere"), RunLock(tmp_path):
        pass
    (tmp_path / "lock.json").unlink()
    with RunLock(tmp_path), pytest.raises(UserError, match=f"process {os.getpid()}"), RunLock(tmp_path):
        pass


def test_a_holder_that_was_taken_over_notices_and_leaves_the_others_lock(tmp_path: Path) -> None:
    with RunLock(tmp_path) as lock:
        assert lock.held()
        write_lock(tmp_path)
        assert not lock.held()
    assert json.loads((tmp_path / "lock.json").read_text())["host"] == "elsewhere"


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_torn_lock_is_no_holder(tmp_path: Path, content: str) -> None:
    (tmp_path / "lock.json").write_text(content)
    with RunLock(tmp_path):
        pass
