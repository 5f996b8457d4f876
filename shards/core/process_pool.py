"""Work shared among processes, with one progress bar; nothing is left running when the parent ends."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, TypeVar

from tqdm import tqdm

from shards.core.errors import Failure

Task = TypeVar("Task")
Result = TypeVar("Result")

_SECONDS = 10.0  # between the lines of progress where there is no terminal

_done: Any = None  # how many pictures all processes have finished: a shared integer, set in each worker
_shown: Callable[[], None] | None = None  # where the parent does the work itself: brings the bar up to date


def count() -> int:
    """How many processes to use when nothing is said: the cores that this process may run on."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def advance(pictures: int = 1) -> None:
    """Called by the work itself: this many more pictures are finished."""
    if _done is not None:
        with _done.get_lock():
            _done.value += pictures
    if _shown is not None:
        _shown()


def run(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int, total: int, doing: str, finished: int = 0
) -> Generator[Result, None, None]:
    """Do the tasks, yielding each result as it comes (in no particular order).

    Args:
        work: a module-level function; it may call `advance`.
        tasks: taken as they are needed, so that few are in memory at a time.
        workers: processes; 1 works in this one.
        total: pictures in all, for the progress bar.
        doing: the bar's word.
        finished: pictures that an earlier run has done.

    Raises:
        Failure: a process was killed.
    """
    global _done, _shown
    context = multiprocessing.get_context(_start_method())
    _done = context.Value("q", 0)
    with _bar(total, finished, doing) as bar:
        try:
            if workers == 1:
                _shown = lambda: _show(bar, finished)  # noqa: E731
                for task in tasks:
                    yield work(task)
            else:
                yield from _shared(work, tasks, workers, context, lambda: _show(bar, finished))
        finally:
            _show(bar, finished)
            _done = _shown = None


def _start_method() -> str:
    """Forked workers have everything imported already; with threads about, and on macOS, they must start afresh."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _shared(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, context: Any, show: Callable[[], None]
) -> Iterator[Result]:
    pool = ProcessPoolExecutor(workers, context, _begin, (_done, os.getpid()))
    queue = iter(tasks)
    pending: set[Future[Result]] = set()
    try:
        while True:
            while len(pending) < 2 * workers:
                try:
                    pending.add(pool.submit(work, next(queue)))
                except StopIteration:
                    break
            if not pending:
                return
            finished, pending = wait(pending, 0.2, FIRST_COMPLETED)
            show()
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise Failure(
            "a worker process was killed (out of memory?); run the same command again, with fewer --workers"
        ) from None
    finally:
        if pending:  # left early: an error, or Ctrl-C
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _begin(done: Any, parent: int) -> None:
    """In each worker: the parent answers Ctrl-C for all, and no worker outlives it."""
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


class _Lines:
    """What stands for the bar where nobody watches: a line now and then, for a job's log."""

    def __init__(self, total: int, finished: int, doing: str) -> None:
        self.n, self._total, self._first, self._doing = finished, total, finished, doing
        self._began = self._said = time.monotonic()

    def __enter__(self) -> _Lines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, more: int) -> None:
        """So many more are finished."""
        self.n += more
        now = time.monotonic()
        if now < self._said + _SECONDS or self.n == self._first:
            return
        self._said = now
        rate = (self.n - self._first) / (now - self._began)
        left = f"{(self._total - self.n) / rate:,.0f} s left"
        line = f"{self._doing}: {self.n:,} of {self._total:,} pictures, {rate:,.0f}/s, {left}"
        print(line, file=sys.stderr, flush=True)


def _bar(total: int, finished: int, doing: str) -> Any:
    if not sys.stderr.isatty():
        return _Lines(total, finished, doing)
    tqdm.monitor_interval = 0  # its thread would be there when workers are forked
    return tqdm(total=total, initial=finished, desc=doing, unit=" pictures", smoothing=0.05, dynamic_ncols=True)


def _show(bar: Any, finished: int) -> None:
    if _done is not None:
        # Read without the lock: a worker that was killed may have held it, and nobody would ever give it back.
        bar.update(finished + _done.get_obj().value - bar.n)
