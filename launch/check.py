"""`cgan check`: start the ranks that check a machine. A task of a SLURM step becomes a rank itself."""

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

_EXIT_SECONDS = 5.0  # for a rank to exit
_PROGRAM = [sys.executable, "-m", "trainer.preflight"]


def main(argv: Sequence[str]) -> None:
    """Run ``cgan check``; exits by SystemExit with the ranks' status.

    Raises:
        UserError: an option is invalid. No rank was started.
    """
    if "WORLD_SIZE" in os.environ and "RANK" in os.environ:  # this process is a rank of another launcher
        _exec([*_PROGRAM, *_without_processes(argv)])
    if int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        _exec([str(FOLDER / "rank.sh"), *_PROGRAM, *_without_processes(argv)])
    if cli.wants_help(argv):
        print(cli.usage(Check, COMMAND))
        return
    asked = cli.parse(Check, argv, command=COMMAND)
    raise SystemExit(_start(list(argv), asked.processes or 1))


def _without_processes(argv: Sequence[str]) -> list[str]:
    if any(word.split("=")[0] == "--processes" for word in argv):
        raise UserError("option-without-effect", "--processes: a launcher has started the ranks already; leave it out")
    return list(argv)


def _exec(command: list[str]) -> None:
    """Replace this process by another program, so that signals reach it."""
    os.execv(command[0], command)


def _start(words: Sequence[str], count: int) -> int:
    """Run ``count`` ranks on this machine and return the highest of their exit statuses."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    ranks: list[subprocess.Popen[bytes]] = []
    signal.signal(signal.SIGTERM, _exit)
    try:
        for rank in range(count):
            variables = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count}
            env = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
            env |= {name: str(value) for name, value in variables.items()}
            ranks.append(subprocess.Popen([*_PROGRAM, *words], env=env))
        return max(_status(process.wait()) for process in ranks)
    finally:
        for process in ranks:
            process.terminate()  # no effect on a process that has exited
        for process in ranks:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_EXIT_SECONDS)


def _exit(number: int, frame: FrameType | None) -> None:
    """Exit by an exception, so that the ranks are terminated too."""
    raise SystemExit(128 + number)


def _status(code: int) -> int:
    """Return an exit status as a shell reports it: 128 plus the signal number if a signal ended the process."""
    return code if code >= 0 else 128 - code
