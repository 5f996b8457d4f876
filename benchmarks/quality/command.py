"""Run commands whose output goes to a log."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from shards.core.errors import Failure

Watch = Callable[[psutil.Process], None]
_LOOK_EVERY = 0.05  # seconds


def run(log: Path, *words: object, watch: Watch | None = None) -> None:
    """Run Python with a command's words, and wait for its end.

    Args:
        log: file to which the output is appended.
        watch: called often with the process while it lives.

    Raises:
        Failure: the command failed; see its output in the log.
    """
    command = [sys.executable, *map(str, words)]
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file, subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT) as process:
        while watch is not None and process.poll() is None:
            watch(psutil.Process(process.pid))
            time.sleep(_LOOK_EVERY)
    if status := process.returncode:
        raise Failure("process-failed", f"{' '.join(command[1:4])} exited with status {status}; see {log}")
