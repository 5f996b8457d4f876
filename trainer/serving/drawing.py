"""The thread that draws: it fills each pass of the generator with images of the requests that wait.

All passes have the shape of `trainer.generation.generate.PASS` images, as those of `Sampler.generate` have, so an image
has the same pixels whichever requests it is drawn with.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future

import numpy as np
import torch
from torch import Tensor

from shards.dataset.label_rows import Labels
from trainer.generation.generate import PASS, generate_images
from trainer.generation.sampler import Sampler
from trainer.serving.metrics import Metrics


class _Job:
    """The images of one request: those that a pass has drawn, and how many are planned into one."""

    def __init__(self, labels: Labels, z: Tensor) -> None:
        self.labels, self.z = labels, z
        self.planned = 0
        self.drawn: list[np.ndarray] = []
        self.future: Future[np.ndarray] = Future()

    @property
    def left(self) -> int:
        return len(self.z) - self.planned

    def plan(self, most: int) -> slice:
        """Return the rows of the next pass: at most ``most``."""
        rows = slice(self.planned, self.planned + min(most, self.left))
        self.planned = rows.stop
        return rows

    def add(self, images: np.ndarray) -> None:
        """Take images of a pass; the last ones complete the future."""
        self.drawn.append(images)
        if sum(map(len, self.drawn)) == len(self.z) and self.future.set_running_or_notify_cancel():
            self.future.set_result(np.concatenate(self.drawn))

    def fail(self, error: Exception) -> None:
        if not self.future.done() and self.future.set_running_or_notify_cancel():  # an earlier pass may have failed
            self.future.set_exception(error)


class DrawingThread:
    """Draws the images of all requests, in the order in which they came.

    Args:
        sampler: its generator is used by this thread alone.
        metrics: counts passes and images.
    """

    def __init__(self, sampler: Sampler, metrics: Metrics) -> None:
        self._sampler, self._metrics = sampler, metrics
        self._jobs: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._ended = False
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), name="drawing", daemon=True)
        self._thread.start()
        started.wait()

    @property
    def is_alive(self) -> bool:
        """Whether requests are drawn."""
        return self._thread.is_alive()

    def submit(self, labels: Labels, z: Tensor) -> Future[np.ndarray]:
        """Return a future of the images that ``sampler.generate(labels, seed)`` returns: uint8 (n, C, H, W).

        A future that is cancelled takes no further place in a pass.

        Args:
            labels: of n images.
            z: their noise, ``sampler.noise(n, seed)``.
        """
        job = _Job(labels, z)
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()
        return job.future

    def end(self) -> None:
        """End the thread once everything that was submitted is drawn."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        self._thread.join()

    def _run(self, started: threading.Event) -> None:
        # A thread takes the process's count for good when it first asks for it; later, text encoders set that to 1.
        torch.get_num_threads()
        started.set()
        while planned := self._plan():
            self._draw(planned)

    def _plan(self) -> list[tuple[_Job, slice]]:
        """Wait for requests, and return whose images the next pass has; nothing at the end."""
        planned: list[tuple[_Job, slice]] = []
        free = PASS
        with self._changed:
            while not planned:
                self._changed.wait_for(lambda: self._jobs or self._ended)
                if not self._jobs:
                    return []
                while self._jobs and free:
                    job = self._jobs[0]
                    if not job.future.done():
                        rows = job.plan(free)
                        planned.append((job, rows))
                        free -= rows.stop - rows.start
                    if job.future.done() or not job.left:
                        self._jobs.popleft()
        return planned

    def _draw(self, planned: list[tuple[_Job, slice]]) -> None:
        with _failing(planned):
            labels = Labels(*(np.concatenate([part[rows] for part, rows in zipped]) for zipped in _columns(planned)))
            z = torch.cat([job.z[rows] for job, rows in planned])
            images = generate_images(self._sampler.generator, z, labels, PASS)
            self._metrics.count_pass(len(images))
            start = 0
            for job, rows in planned:
                count = rows.stop - rows.start
                job.add(images[start : start + count])
                start += count


def _columns(planned: list[tuple[_Job, slice]]) -> Iterator[list[tuple[np.ndarray, slice]]]:
    """Yield the label vectors of all jobs with their rows, then their masks."""
    yield [(job.labels.label, rows) for job, rows in planned]
    yield [(job.labels.known, rows) for job, rows in planned]


@contextlib.contextmanager
def _failing(planned: list[tuple[_Job, slice]]) -> Iterator[None]:
    """Let an error fail the jobs of its pass, and nothing else."""
    try:
        yield
    except Exception as error:
        for job, _ in planned:
            job.fail(error)
