"""A thread that fetches shards before they are read."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence

from shards.remote.cache import CachedDataset, FileRecord


class Prefetcher:
    """Fetches files in a background thread; for one process. Errors surface when the file is read."""

    def __init__(self, cached: CachedDataset) -> None:
        self.process = os.getpid()
        self._cached = cached
        self._wanted: list[FileRecord] = []
        self._closed = False
        self._changed = threading.Condition()
        threading.Thread(target=self._run, name="prefetch", daemon=True).start()

    def request(self, wanted: Sequence[FileRecord]) -> None:
        """Fetch these files next, in this order; replaces the previous request."""
        with self._changed:
            self._wanted = list(wanted)
            self._changed.notify()

    def close(self) -> None:
        """End the thread."""
        if os.getpid() != self.process:
            return  # a fork has no such thread, and the lock in any state
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._wanted or self._closed)
                if self._closed:
                    return
                file = self._wanted.pop(0)
            try:
                self._cached.fetch_ahead(file)
            except Exception:
                with self._changed:
                    self._wanted = []
