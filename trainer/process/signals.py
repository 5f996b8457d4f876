"""Requests to stop: signals and the loss of the launcher set a flag; the training loop saves and exits.

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

# One Ctrl-C can arrive twice: from the terminal, and forwarded by the launcher.
_PATIENCE = 3.0  # seconds after which a second Ctrl-C exits without a checkpoint

_GRACE = 10.0  # seconds to wait for the next batch after a request to stop

STOPPING = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)  # signals that ask to stop

T = TypeVar("T")

_received: str | None = None
_received_at = 0.0
_parent = os.getppid()  # noted at once: a launcher that dies during the imports is missed too
# `accelerate launch` and torchrun set these. A launcher that is signalled alone dies and would leave its processes
# running; a shell that exits (nohup) is not a launcher.
_launched = bool({"ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID"} & set(os.environ))
_waiting = False


class Overdue(BaseException):
    """The next batch did not arrive in time after a request to stop."""


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a scheduler's warning) into requests to stop; a second Ctrl-C exits at once."""
    for name in STOPPING:
        signal.signal(name, _handle)
    signal.signal(signal.SIGALRM, _end_waiting)


def finish() -> None:
    """Disable the alarm at the end of a run: Python removes its handlers before exit, and an alarm would kill it."""
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
    before = {number: signal.getsignal(number) for number in (*STOPPING, signal.SIGALRM)}
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
    """Return why this process should stop ("SIGTERM", "the launcher is gone"), or None."""
    if _received is None and launcher_is_lost():
        return "the launcher is gone"
    return _received


def launcher_is_lost() -> bool:
    """Return whether this process had a launcher, which has ended since."""
    return _launched and os.getppid() != _parent


def launcher_was_lost_before() -> bool:
    """Return whether a launcher of several processes had ended before this module was imported."""
    if _parent != 1 or "TORCHELASTIC_RUN_ID" not in os.environ:
        return False
    import psutil

    try:
        words = psutil.Process(1).cmdline()
    except psutil.Error:
        return True
    return not any("accelerate" in word or "torch" in word for word in words)  # in a container it may be process 1


def until_overdue(items: Iterator[T]) -> Iterator[T]:
    """Yield items; end if a stop was requested and the next item does not arrive within some seconds.

    Otherwise a server that does not answer would block the final checkpoint until the run is killed.
    """
    global _waiting
    while True:
        try:
            _waiting = True
            try:
                item = next(items)
            finally:
                _waiting = False
        except (StopIteration, Overdue):
            return
        yield item


def _end_waiting(number: int, frame: FrameType | None) -> None:
    if _waiting:
        raise Overdue
    signal.setitimer(signal.ITIMER_REAL, 1.0)  # the run is in a step; check again


def _handle(number: int, frame: FrameType | None) -> None:
    global _received, _received_at
    now = time.monotonic()
    if _received is None:
        _received, _received_at = signal.Signals(number).name, now
        signal.setitimer(signal.ITIMER_REAL, _GRACE)
    elif number == signal.SIGINT and now - _received_at > _PATIENCE:
        raise KeyboardInterrupt
