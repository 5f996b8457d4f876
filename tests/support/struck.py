"""A program that runs another one and injects a failure when it is about to change a given file.

    python tests/support/struck.py STROKES LOG PROGRAM WORD …

STROKES is a JSON list of `Stroke`, which are applied in order; LOG (or "") receives one line for each change to a file
that the process is about to make. Python's audit events (PEP 578) announce them, so the program runs unmodified. Forked
processes are included; of several training processes, only rank 0 is.
"""

from __future__ import annotations

import errno
import json
import os
import re
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


@dataclass(frozen=True)
class Stroke:
    """A failure to inject at an operation on a file.

    Attributes:
        doing: regular expression that an operation's line must match, like "rename .*report.html".
        event: a signal; an errno ("ENOSPC") with which the operation fails; or "nothing", to delay the next stroke.
        nth: number of the matching operation, from 1.
        whom: receivers of the signal: "process" (this one), or "job" (the launcher and all of its processes).
    """

    doing: str
    event: str
    nth: int = 1
    whom: str = "process"


def operation(event: str, args: tuple[Any, ...]) -> str | None:
    """Return a line that describes a file change announced by Python; None for any other event."""
    kind = event.removeprefix("os.").removeprefix("shutil.")
    if event == "open" and isinstance(args[2], int) and args[2] & _WRITING:
        return f"write {_text(args[0])}"
    if event == "os.rename":
        return f"rename {_text(args[0])} to {_text(args[1])}"
    if event in ("os.link", "os.remove", "os.rmdir", "os.mkdir", "os.truncate", "shutil.rmtree"):
        return f"{kind} {_text(args[1] if event == 'os.link' else args[0])}"
    return None


def _text(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else str(path)


def strike(stroke: Stroke) -> None:
    """Apply a stroke to this process now.

    Raises:
        OSError: the stroke is a failing operation.
    """
    if stroke.event == "nothing":
        return
    if not stroke.event.startswith("SIG"):
        number = getattr(errno, stroke.event)
        raise OSError(number, os.strerror(number))
    number = getattr(signal, stroke.event)
    if stroke.whom == "job" and "ACCELERATE_MIXED_PRECISION" in os.environ:  # as `accelerate launch` marks its own
        launcher = psutil.Process(os.getppid())
        for process in [launcher, *launcher.children(recursive=True)]:
            if process.pid != os.getpid():
                process.send_signal(number)
    os.kill(os.getpid(), number)


def watch(strokes: list[Stroke], log: str | Path = "", before: Callable[[], None] | None = None) -> None:
    """Apply the strokes to this process from now on.

    Args:
        strokes: what is applied, in this order.
        log: a file that receives a line for each change to files.
        before: called before each of these changes; its own changes do not count, and those of other threads wait.
    """
    noted = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else None
    left, met, busy, turn = list(strokes), 0, threading.local(), threading.Lock()

    def hook(event: str, args: tuple[Any, ...]) -> None:
        nonlocal met
        if not event.startswith(("open", "os.", "shutil.")) or getattr(busy, "now", False):
            return
        line = operation(event, args)
        if line is None:
            return
        busy.now = True
        try:
            if before is not None:
                with turn:
                    before()
            if noted is not None:
                os.write(noted, f"{line}\n".encode())
            if left and re.search(left[0].doing, line):
                met += 1
                if met == left[0].nth:
                    met = 0
                    if noted is not None and len(left) == 1:
                        os.write(noted, f"struck at {line}\n".encode())
                    strike(left.pop(0))
        finally:
            busy.now = False

    sys.addaudithook(hook)


def main(strokes: str, log: str, program: str) -> None:
    """Run the program with the strokes installed."""
    if os.environ.get("RANK", "0") == "0":
        watch([Stroke(**fields) for fields in json.loads(strokes)], log)
    sys.argv[:] = [program, *sys.argv[4:]]
    if program.endswith(".py"):
        sys.path[0] = str(Path(program).resolve().parent)
        runpy.run_path(program, run_name="__main__")
    else:
        sys.path.pop(0)
        runpy.run_module(program, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:4])
