"""`python -m launch check`: start the ranks that look at a place; a task of a SLURM step becomes one itself."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from types import FrameType

from launch.slurm.script import FOLDER
from shards.core import cli
from shards.core.errors import UserError
from trainer.preflight.options import COMMAND, Check

_PATIENCE = 5.0  # seconds for a rank to leave
_PROGRAM = [sys.executable, "-m", "trainer.preflight"]


def main(argv: Sequence[str]) -> None:
    """``python -m launch check``; leaves by SystemExit with the ranks' status.

    Raises:
        UserError: what was asked for cannot be; nothing was started then.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:  # another launcher has made this process a rank
        _become([*_PROGRAM, *_without_processes(argv)])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        _become([str(FOLDER / "rank.sh"), *_PROGRAM, *_without_processes(argv)])
    if cli.wants_help(argv):
        print(cli.usage(Check, COMMAND))
        return
    asked = cli.parse(Check, argv, command=COMMAND)
    raise SystemExit(_start(list(argv), asked.processes or 1))


def _without_processes(argv: Sequence[str]) -> list[str]:
    if any(word.split("=")[0] == "--processes" for word in argv):
        raise UserError("--processes: the ranks are there already, as this job's tasks; leave it out")
    return list(argv)


def _become(command: list[str]) -> None:
    """Go on as another program, so that signals reach it."""
    os.execv(command[0], command)


def _start(words: Sequence[str], count: int) -> int:
    """Run ``count`` ranks on this machine; the highest of their exit statuses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    ranks: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _leave)
    try:
        for rank in range(count):
            place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            env |= {name: str(value) for name, value in place.items()}
            ranks.append(subprocess.Popen([*_PROGRAM, *words], env=env))
        return max(_status(process.wait()) for process in ranks)
    finally:
        for process in ranks:
            process.terminate()  # nothing, where it has ended
        for process in ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PATIENCE)


def _leave(number: int, frame: FrameType | None) -> None:
    """Be ended as by an error, so that the ranks are ended too."""
    raise SystemExit(128 + number)


def _status(code: int) -> int:
    """An exit status as a shell has it: a process that a signal ended has 128 and the signal's number."""
    return code if code >= 0 else 128 - code
