"""Notice data workers that are killed or stopped, while the trainer waits for them and at no other moment.

DataLoader's own handler of SIGCHLD raises in whatever line the trainer is in, such as in the middle of a step. A worker
that is stopped (SIGSTOP, a debugger) is never noticed: the trainer would wait for it forever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any

import psutil

_INTERVAL = 1.0  # seconds
_PATIENCE = 8  # polls after which a stopped worker is given up; a suspended job suspends the polls too


class WorkerWatch:
    """Watches the workers of a DataLoader's iterator, from a thread.

    Args:
        make: creates the iterator, and so starts its workers.
    """

    def __init__(self, make: Any) -> None:
        self._in_main = threading.current_thread() is threading.main_thread()
        self._outside = signal.getsignal(signal.SIGCHLD) if self._in_main else None
        self.iterator = make()
        self.workers: Sequence[BaseProcess] = self.iterator._workers
        self.stopped = False  # whether a worker was given up because it was stopped
        self._inside = signal.getsignal(signal.SIGCHLD) if self._in_main else None
        self._over = threading.Event()
        self._set(self._outside)
        threading.Thread(target=self._poll, name="watch data workers", daemon=True).start()

    def __iter__(self) -> Iterator[Any]:
        """Yield the iterator's items.

        Raises:
            RuntimeError: a worker was killed.
        """
        while True:
            with self._noticing():
                item = next(self.iterator, None)
            if item is None:
                return
            yield item

    @contextlib.contextmanager
    def _noticing(self) -> Iterator[None]:
        self._set(self._inside)
        try:
            yield
        finally:
            self._set(self._outside)

    def _set(self, handler: Any) -> None:
        if self._in_main and handler is not None:
            signal.signal(signal.SIGCHLD, handler)

    def _poll(self) -> None:
        """Kill a worker that stays stopped; repeat the signal of a worker's death, which came at a wrong moment."""
        stopped = dict.fromkeys((worker.pid for worker in self.workers if worker.pid), 0)
        while not self._over.wait(_INTERVAL):
            for pid in stopped:
                status = _status(pid)
                stopped[pid] = stopped[pid] + 1 if status == psutil.STATUS_STOPPED else 0
                if stopped[pid] == _PATIENCE:
                    self.stopped = True
                    os.kill(pid, signal.SIGKILL)
                elif status == psutil.STATUS_ZOMBIE and self._in_main and self._inside is not None:
                    os.kill(os.getpid(), signal.SIGCHLD)

    def close(self) -> None:
        """End all workers. One that does not react, since it is stopped or its disk hangs, is killed."""
        self._over.set()
        _kill_stopped(self.workers)
        with self._noticing(), contextlib.suppress(RuntimeError):  # a worker was killed
            self.iterator._shutdown_workers()
        for worker in self.workers:
            if worker.is_alive():
                worker.kill()
                worker.join(1.0)


def _kill_stopped(workers: Iterable[BaseProcess]) -> None:
    for worker in workers:
        if worker.pid and _status(worker.pid) == psutil.STATUS_STOPPED:
            worker.kill()  # it cannot end by itself, and would be waited for


def _status(pid: int) -> str:
    try:
        return psutil.Process(pid).status()
    except psutil.Error:
        return psutil.STATUS_DEAD
