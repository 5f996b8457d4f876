"""A process of a job that is stopped (SIGSTOP, Ctrl-Z) and stays so is ended by a watcher of its own.

The others give up waiting for it after ``--timeout``, but nobody ends *it*: the launcher of its machine waits as long
as it exists, and its machine is taken by something that does not move.
"""

from __future__ import annotations

import os
import signal
import time

import psutil

_LOOK = 0.5  # seconds
_AFTER = 5.0  # seconds after the others gave up: they shall still find it as it is


def watch(timeout: float) -> None:
    """Fork a process that ends this one when it has been stopped for ``timeout`` seconds, and ends with it.

    To be called before there are threads: a fork takes none of them along.
    """
    watched = os.getpid()
    if os.fork():
        return
    try:
        _detach()
        _follow(watched, timeout + _AFTER)
    finally:
        os._exit(0)


def _detach() -> None:
    """Hold no pipe of the launcher's open, and leave signals to the process itself."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)


def _follow(watched: int, patience: float) -> None:
    """Looks are counted and not seconds: who suspends the whole job suspends this process too."""
    still = 0
    while os.getppid() == watched:
        time.sleep(_LOOK)
        try:
            stopped = psutil.Process(watched).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return
        still = still + 1 if stopped else 0
        if still * _LOOK > patience:
            os.kill(watched, signal.SIGKILL)
