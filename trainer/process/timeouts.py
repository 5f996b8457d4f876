"""Run what may hang (a dead file server, a driver, a network, a tracker) with a time limit."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class TimedOut(Exception):
    """An action did not finish within its time limit."""


def run_with_timeout(seconds: float, action: Callable[[], T]) -> T:
    """Run ``action`` in a thread, which is abandoned after ``seconds``, and return its result.

    Raises:
        TimedOut: it has not finished. Any exception of ``action`` is raised, too.
    """
    outcome: queue.Queue[tuple[bool, Any]] = queue.Queue(1)

    def run() -> None:
        try:
            outcome.put((True, action()))
        except BaseException as error:
            outcome.put((False, error))

    threading.Thread(target=run, daemon=True).start()
    try:
        succeeded, content = outcome.get(timeout=seconds)
    except queue.Empty:
        raise TimedOut(f"no answer for {seconds:g} s") from None
    if not succeeded:
        raise content
    return content
