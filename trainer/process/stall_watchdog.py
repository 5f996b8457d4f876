"""A watchdog that kills a process of a job that stays stopped (SIGSTOP, Ctrl-Z).

The other ranks give up after ``--timeout``, but nothing ends the stopped process: its launcher waits as long as it
exists, and its machine stays occupied.
"""

from __future__ import annotations

import os
import signal
import time

import psutil

_INTERVAL = 0.5  # seconds
_DELAY = 5.0  # seconds after the others gave up, so that they can still report it as stopped


def watch(timeout: float) -> None:
    """Fork a watchdog that kills this process once it has been stopped for ``timeout`` seconds, and exits with it.

    Call this before any thread starts: a fork does not copy threads.
    """
    watched = os.getpid()
    if os.fork():
        return
    try:
        _detach()
        _follow(watched, timeout + _DELAY)
    finally:
        os._exit(0)


def _detach() -> None:
    """Close the launcher's pipes, and ignore signals that are for the watched process."""
    for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nothing, number)


def _follow(watched: int, patience: float) -> None:
    """Poll the watched process; polls count, not seconds, as a suspended job suspends this process too."""
    still = 0
    while os.getppid() == watched:
        time.sleep(_INTERVAL)
        try:
            stopped = psutil.Process(watched).status() == psutil.STATUS_STOPPED
        except psutil.Error:
            return
        still = still + 1 if stopped else 0
        if still * _INTERVAL > patience:
            os.kill(watched, signal.SIGKILL)
