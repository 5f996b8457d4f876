"""Doing what may hang (a dead file server, a driver, a network) without hanging with it."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class Late(Exception):
    """Something did not end within its time."""


def within(seconds: float, action: Callable[[], T]) -> T:
    """What ``action`` returns, done in a thread that is left to itself after ``seconds``.

    Raises:
        Late: it is not done. Else whatever ``action`` raises.
    """
    said: queue.Queue[tuple[bool, Any]] = queue.Queue(1)

    def run() -> None:
        try:
            said.put((True, action()))
        except BaseException as error:
            said.put((False, error))

    threading.Thread(target=run, name="look", daemon=True).start()
    try:
        done, content = said.get(timeout=seconds)
    except queue.Empty:
        raise Late(f"no answer for {seconds:g} s") from None
    if not done:
        raise content
    return content
