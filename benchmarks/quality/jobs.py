"""Run independent jobs of a study, several at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

Result = TypeVar("Result")


def run_all(calls: Iterable[Callable[[], Result]], at_a_time: int) -> list[Result]:
    """Call all, and return their results in order; after a failure or Ctrl-C, those that wait are not begun.

    Args:
        calls: each waits for a process that it starts.
        at_a_time: how many are called at the same time.
    """
    with ThreadPoolExecutor(at_a_time) as pool:
        begun = [pool.submit(call) for call in calls]
        try:
            wait(begun, return_when=FIRST_EXCEPTION)
        finally:
            pool.shutdown(cancel_futures=True)
    return [job.result() for job in begun]  # jobs begin in order, so a failure comes before those that were cancelled
