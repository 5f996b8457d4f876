"""Asking a run to stop: signals and a lost launcher set a flag, the loop saves and leaves.

Imported before torch, whose import takes seconds in which a signal would otherwise kill the process.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import TypeVar

# One Ctrl-C can arrive twice: from the terminal, and passed on by the launcher that heard it too.
_PATIENCE = 3.0  # seconds after which another Ctrl-C is a person who does not want to wait for the checkpoint

_GRACE = 10.0  # seconds that the next batch may still take when a stop was asked for

_STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)

T = TypeVar("T")

_received: str | None = None
_received_at = 0.0
_parent = os.getppid()  # noted at once: a launcher that dies during the imports is missed too
_launched = False
_waiting = False


class Overdue(BaseException):
    """A stop was asked for, and what the run waits for does not come."""


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a scheduler's warning) into a request to stop; a second Ctrl-C leaves now."""
    global _launched
    for name in _STOPPING:
        signal.signal(name, _handle)
    signal.signal(signal.SIGALRM, _end_waiting)
    # `accelerate launch` and torchrun mark their children so. When only the launcher is signalled it dies alone and
    # would leave the trainer writing on unseen; a shell that exits (nohup) is no such case.
    _launched = bool({"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & set(os.environ))


def finish() -> None:
    """The run is over: no alarm from now on. Python gives up its handlers before it ends; one would kill it then."""
    signal.signal(signal.SIGALRM, signal.SIG_IGN)


@contextlib.contextmanager
def handled() -> Iterator[None]:
    """Handle signals as `install` does while a training runs inside another program.

    Afterwards the program's own handlers are restored, and a signal that stopped the training is raised again for them.
    Only the main thread can set handlers; in any other thread, nothing changes.
    """
    global _received
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (*_STOPPING, signal.SIGALRM)}
    _received = None
    install()
    try:
        yield
        received = _received
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in before.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        _received = None
    if received is not None:
        signal.raise_signal(signal.Signals[received])


def request() -> str | None:
    """Why this process should stop ("SIGTERM", "the launcher is gone"), or None."""
    if _received is None and _launched and os.getppid() != _parent:
        return "the launcher is gone"
    return _received


def awaited(coming: Iterator[T]) -> Iterator[T]:
    """What comes, one by one; ends when a stop was asked for and the next one does not come for some seconds.

    A server that does not answer would otherwise keep a run from being saved until it is killed.
    """
    global _waiting
    while True:
        try:
            _waiting = True
            try:
                item = next(coming)
            finally:
                _waiting = False
        except (StopIteration, Overdue):
            return
        yield item


def _end_waiting(number: int, frame: FrameType | None) -> None:
    if _waiting:
        raise Overdue
    signal.setitimer(signal.ITIMER_REAL, 1.0)  # the run is in a step; look again


def _handle(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    now = time.monotonic()
    if _received is None:
        _received, _received_at = signal.Signals(number).name, now
        signal.setitimer(signal.ITIMER_REAL, _GRACE)
    elif number == signal.SIGINT and now - _received_at > _PATIENCE:
        raise KeyboardInterrupt
