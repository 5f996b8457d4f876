"""Counters of a server, in the text format of Prometheus (version 0.0.4)."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)  # seconds


class Metrics:
    """Counters of one server, which several threads may change."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds: Counter[float] = Counter()  # by the bucket's bound; inf: slower than all
        self._total_seconds = 0.0
        self._passes = self._images = 0
        self.waiting: Callable[[], int] = lambda: 0

    def count_request(self, path: str, status: int, seconds: float) -> None:
        """Count an answered request.

        Args:
            path: one of the server's own; "other" for all that a client made up.
            seconds: from its head to the end of its answer.
        """
        with self._lock:
            self._requests[path, status] += 1
            if path == "/sample" and status == 200:
                self._seconds[next((bound for bound in _BUCKETS if seconds <= bound), float("inf"))] += 1
                self._total_seconds += seconds

    def count_pass(self, images: int) -> None:
        """Count a pass of the generator that drew so many images."""
        with self._lock:
            self._passes += 1
            self._images += images

    def text(self) -> str:
        """Return all values as lines."""
        with self._lock:
            return "".join(f"{line}\n" for line in self._lines())

    def _lines(self) -> Iterator[str]:
        yield from _described("cgan_requests_total", "counter", "Answered requests.")
        for (path, status), count in sorted(self._requests.items()):
            yield f'cgan_requests_total{{path="{path}",status="{status}"}} {count}'
        yield from _described("cgan_waiting_requests", "gauge", "Requests whose images are not finished.")
        yield f"cgan_waiting_requests {self.waiting()}"
        yield from _described("cgan_passes_total", "counter", "Passes of the generator.")
        yield f"cgan_passes_total {self._passes}"
        yield from _described("cgan_images_total", "counter", "Images drawn.")
        yield f"cgan_images_total {self._images}"
        yield from _described("cgan_sample_seconds", "histogram", "Seconds of a successful POST /sample.")
        total = 0
        for bound in _BUCKETS:
            total += self._seconds[bound]
            yield f'cgan_sample_seconds_bucket{{le="{bound}"}} {total}'
        total += self._seconds[float("inf")]
        yield f'cgan_sample_seconds_bucket{{le="+Inf"}} {total}'
        yield f"cgan_sample_seconds_sum {self._total_seconds:.6f}"
        yield f"cgan_sample_seconds_count {total}"


def _described(name: str, kind: str, text: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"
