"""Shards that will soon be read, fetched by a thread meanwhile."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from shards.remote.cache import File, Room


class Prefetcher:
    """Fetches what will soon be read, in a thread; for one process. Errors are left to whoever reads."""

    def __init__(self, room: Room) -> None:
        self.process = os.getpid()
        self._room = room
        self._wanted: list[File] = []
        self._closed = False
        self._news = threading.Condition()
        threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def ask(self, wanted: Sequence[File]) -> None:
        """What to have next, in this order; replaces what was asked before."""
        with self._news:
            self._wanted = list(wanted)
            self._news.notify()

    def close(self) -> None:
        """Nothing more is wanted; the thread ends."""
        if os.getpid() != self.process:
            return  # a fork has no such thread, and the lock as it happened to be
        with self._news:
            self._closed = True
            self._news.notify()

    def _run(self) -> None:
        while True:
            with self._news:
                self._news.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                file = self._wanted.pop(0)
            try:
                self._room.fetch_ahead(file)
            except Exception:
                with self._news:
                    self._wanted = []
