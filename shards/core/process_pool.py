"""A process pool with one progress bar, which leaves no process behind when the parent ends."""

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

_LINE_INTERVAL = 10.0  # seconds between progress lines if stderr is not a terminal

_done: Any = None  # images that all processes have finished: a shared integer, set in each worker
_refresh: Callable[[], None] | None = None  # updates the bar if the parent does the work itself


def available_cores() -> int:
    """Return the number of cores that this process may run on: the default number of workers."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def advance(images: int = 1) -> None:
    """Report, from within the work, that so many more images are finished."""
    if _done is not None:
        with _done.get_lock():
            _done.value += images
    if _refresh is not None:
        _refresh()


def run(
    work: Callable[[Task], Result], tasks: Iterable[Task], *, workers: int, total: int, doing: str, finished: int = 0
) -> Generator[Result, None, None]:
    """Run ``work`` on all tasks, and yield the results in order of completion.

    Args:
        work: a module-level function; it may call `advance`.
        tasks: consumed lazily, so that few are in memory at a time.
        workers: number of processes; 1 works in this process.
        total: number of images, for the progress bar.
        doing: the label of the progress bar.
        finished: images that an earlier run has finished.

    Raises:
        Failure: a process was killed.
    """
    global _done, _refresh
    context = multiprocessing.get_context(_start_method())
    _done = context.Value("q", 0)
    with _bar(total, finished, doing) as bar:
        try:
            if workers == 1:
                _refresh = lambda: _update(bar, finished)  # noqa: E731
                for task in tasks:
                    yield work(task)
            else:
                yield from _run_in_pool(work, tasks, workers, context, lambda: _update(bar, finished))
        finally:
            _update(bar, finished)
            _done = _refresh = None


def _start_method() -> str:
    """Return "fork", which spares the imports, if it is safe: on Linux, and without other threads."""
    return "fork" if sys.platform == "linux" and threading.active_count() == 1 else "spawn"


def _run_in_pool(
    work: Callable[[Task], Result], tasks: Iterable[Task], workers: int, context: Any, refresh: Callable[[], None]
) -> Iterator[Result]:
    pool = ProcessPoolExecutor(workers, context, _start_worker, (_done, os.getpid()))
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
            refresh()
            for future in finished:
                yield future.result()
    except BrokenProcessPool:
        raise Failure(
            "worker-killed", "a worker process was killed (out of memory?); re-run the command with fewer --workers"
        ) from None
    finally:
        if pending:  # left early: an error, or Ctrl-C
            for process in list((getattr(pool, "_processes", None) or {}).values()):
                process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)


def _start_worker(done: Any, parent: int) -> None:
    """Prepare a worker: ignore Ctrl-C, which the parent handles, and exit with the parent."""
    global _done
    _done = done
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def exit_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=exit_with_parent, daemon=True).start()


class _ProgressLines:
    """A replacement for the bar in a job's log: one line every few seconds."""

    def __init__(self, total: int, finished: int, doing: str) -> None:
        self.n, self._total, self._first, self._doing = finished, total, finished, doing
        self._start = self._last_line = time.monotonic()

    def __enter__(self) -> _ProgressLines:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self, more: int) -> None:
        """Add finished images; print a line if it is time."""
        self.n += more
        now = time.monotonic()
        if now < self._last_line + _LINE_INTERVAL or self.n == self._first:
            return
        self._last_line = now
        rate = (self.n - self._first) / (now - self._start)
        left = f"{(self._total - self.n) / rate:,.0f} s left"
        line = f"{self._doing}: {self.n:,} of {self._total:,} images, {rate:,.0f}/s, {left}"
        print(line, file=sys.stderr, flush=True)


def _bar(total: int, finished: int, doing: str) -> Any:
    if not sys.stderr.isatty():
        return _ProgressLines(total, finished, doing)
    tqdm.monitor_interval = 0  # its thread would run when workers are forked
    return tqdm(total=total, initial=finished, desc=doing, unit=" images", smoothing=0.05, dynamic_ncols=True)


def _update(bar: Any, finished: int) -> None:
    if _done is not None:
        # Read without the lock: a killed worker may have held it, and would never release it.
        bar.update(finished + _done.get_obj().value - bar.n)
