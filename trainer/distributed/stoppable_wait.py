"""End a process that is asked to stop while torch waits for the other ranks.

torch waits in C++, where Python runs no handler of a signal, for as long as ``--timeout``. Ranks whose launcher dies
during the start-up would try to reach its store until then, and their machine would stay occupied.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from typing import NoReturn

from shards.core.errors import Failure, exit_status, is_first_process
from trainer.process import signals
from trainer.process.exit import leave

_INTERVAL = 0.5  # seconds between two looks
_GRACE = 10.0  # seconds in which the wait may end, and the process stop in its own way


@contextlib.contextmanager
def stoppable(what: str) -> Iterator[None]:
    """End this process with status 1 if it is still in here ten seconds after a signal or the loss of its launcher.

    Args:
        what: what is being waited for, for the sentence that is printed.
    """
    over = threading.Event()
    with _arriving_signals() as arriving:
        watcher = threading.Thread(target=_watch, args=(what, arriving, over), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            over.set()
            watcher.join()


@contextlib.contextmanager
def _arriving_signals() -> Iterator[int]:
    """Yield a descriptor to which a byte is written for each signal, also while Python does not run."""
    reader, writer = os.pipe()
    for end in (reader, writer):
        os.set_blocking(end, False)
    is_main = threading.current_thread() is threading.main_thread()  # no other thread may set it
    before = signal.set_wakeup_fd(writer, warn_on_full_buffer=False) if is_main else -1
    try:
        yield reader
    finally:
        if is_main:
            signal.set_wakeup_fd(before)
        os.close(reader)
        os.close(writer)


def _watch(what: str, arriving: int, over: threading.Event) -> None:
    reason, since = None, 0.0
    while not over.wait(_INTERVAL):
        if reason is None:
            reason, since = signals.request() or _name_of(arriving) or _loss(), time.monotonic()
        elif time.monotonic() - since > _GRACE:
            _end(f"stopped ({reason}) while waiting for {what}; re-run the same command to start again")


def _loss() -> str | None:
    lost = signals.launcher_is_lost() or signals.launcher_was_lost_before()
    return "the launcher is gone" if lost else None


def _name_of(arriving: int) -> str | None:
    """Return the name of an arrived signal that asks to stop."""
    with contextlib.suppress(BlockingIOError):
        for number in os.read(arriving, 64):
            if number in signals.STOPPING:
                return signal.Signals(number).name
    return None


def _end(sentence: str) -> NoReturn:
    failure = Failure("stopped-waiting", sentence)
    failure.already_reported = not is_first_process()

    def fail() -> None:
        raise failure

    leave(exit_status(fail))
