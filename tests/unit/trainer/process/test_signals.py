"""Stop requests: the first signal sets a flag, a second Ctrl-C exits at once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

CODE = """
import os, signal, sys, time
from trainer.process import signals
signals.install()
assert signals.request() is None
signals._PATIENCE = float(sys.argv[1])
os.kill(os.getpid(), getattr(signal, sys.argv[2]))
time.sleep(0.2)
os.kill(os.getpid(), signal.SIGINT)
time.sleep(0.2)
print(signals.request())
"""


@pytest.mark.parametrize("first", ["SIGINT", "SIGTERM", "SIGUSR1"])
def test_ctrl_c_shortly_after_a_signal_is_ignored(first: str) -> None:
    done = subprocess.run([sys.executable, "-c", CODE, "3", first], capture_output=True, text=True, check=False)
    assert done.stdout == f"{first}\n", done.stderr


def test_second_ctrl_c_exits_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", CODE, "0.1", "SIGINT"], capture_output=True, text=True, check=False)
    assert "KeyboardInterrupt" in done.stderr
    assert done.returncode in (-signal.SIGINT, 130, 1)


SLOW_END = """
import os, signal, sys, time
from trainer.process import signals
class Slow:
    def __del__(self, sleep=time.sleep):
        sleep(1)
signals._GRACE = 0.05
signals.install()
os.kill(os.getpid(), signal.SIGTERM)
assert signals.request() == "SIGTERM"
sys.modules["held"] = Slow()  # deleted after Python has removed its signal handlers
if sys.argv[1] == "finish":
    signals.finish()
"""


@pytest.mark.parametrize(("last", "status"), [("finish", 0), ("nothing", -signal.SIGALRM)])
def test_slow_interpreter_exit_raises_no_alarm_after_finish(last: str, status: int) -> None:
    done = subprocess.run([sys.executable, "-c", SLOW_END, last], capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr


CHILD = """
import os, pathlib, sys, time
from trainer.process import signals
signals.install()
os.write(1, b"ready")
time.sleep(0.5)
answer = pathlib.Path(sys.argv[1])
answer.with_suffix(".new").write_text(str(signals.request()))
answer.with_suffix(".new").rename(answer)
"""
PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-c", sys.argv[1], sys.argv[2]], stdout=subprocess.PIPE)
child.stdout.read(5)
"""


@pytest.mark.parametrize(("launched", "expected"), [(False, "None"), (True, "the launcher is gone")])
def test_lost_parent_is_a_stop_request_only_under_a_launcher(tmp_path: Path, launched: bool, expected: str) -> None:
    """A process keeps running if its shell exits (nohup), and stops if its launcher dies."""
    environment = dict(os.environ) | ({"ACCELERATE_MIXED_PRECISION": "no"} if launched else {})
    answer = tmp_path / "answer"
    subprocess.run([sys.executable, "-c", PARENT, CHILD, str(answer)], env=environment, check=True)
    end = time.monotonic() + 20
    while not answer.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert answer.read_text() == expected
