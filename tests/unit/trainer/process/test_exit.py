"""Exit of a process: without the interpreter's teardown in a job, with its status and all of its output."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.launching import ROOT

PROGRAM = """
import atexit, sys
from shards.core.errors import Failure, UserError
from trainer.process.exit import end

class Late:
    def __del__(self, write=sys.stderr.write):
        write("torn down")

late = Late()
atexit.register(print, "at exit")

def fail(kind, *text):
    raise kind(*text)

end(lambda: print("done") if sys.argv[1] == "well" else fail(eval(sys.argv[1]), *sys.argv[2:]))
"""


def ended(folder: Path, world: int, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a process of a job of ``world`` ranks that ends as ``words`` say, with (buffered) output to a pipe."""
    (folder / "program.py").write_text(PROGRAM)
    command = [sys.executable, str(folder / "program.py"), *words]
    env = os.environ | {"PYTHONPATH": str(ROOT), "WORLD_SIZE": str(world), "RANK": "0"}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("world", [1, 2])
@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("well",), 0, ""),
        (("UserError", "not-so", "not so"), 2, "error: not so [not-so]\n"),
        (("Failure", "no-room", "no room"), 1, "error: no room [no-room]\n"),
        (("KeyboardInterrupt",), 130, ""),
        (("ZeroDivisionError", "a bug"), 1, "ZeroDivisionError: a bug\n"),
        (("SystemExit",), 0, ""),
    ],
)
def test_exit_status_and_output(tmp_path: Path, world: int, words: tuple[str, ...], status: int, said: str) -> None:
    done = ended(tmp_path, world, *words)
    assert done.returncode == status, done.stderr
    assert done.stdout == ("done\n" if words == ("well",) else "") + "at exit\n"
    assert said in done.stderr and ("Traceback" in done.stderr) == ("bug" in str(words))


def test_trap_process_of_a_job_skips_the_teardown(tmp_path: Path) -> None:
    """During the teardown, a thread of gloo that releases a tensor aborts the process."""
    assert "torn down" in ended(tmp_path, 1, "well").stderr
    for words in (("well",), ("UserError", "not-so", "not so"), ("ZeroDivisionError", "a bug")):
        assert "torn down" not in ended(tmp_path, 2, *words).stderr


def test_hanging_exit_handler_does_not_block_the_exit(tmp_path: Path) -> None:
    hanging = (
        "import time, trainer.process.exit\ntrainer.process.exit._LAST_SECONDS = 0.5\n"
        "atexit.register(time.sleep, 50)\nlate ="
    )
    (tmp_path / "hanging.py").write_text(PROGRAM.replace("late =", hanging))
    command = [sys.executable, str(tmp_path / "hanging.py"), "UserError", "not-so", "not so"]
    env = os.environ | {"PYTHONPATH": str(ROOT), "WORLD_SIZE": "2", "RANK": "0"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (2, "error: not so [not-so]\n")
