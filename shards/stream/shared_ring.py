"""Memory that the data workers and the trainer both see: batches' pixels cross in it, without being sent.

A loader that shares each batch anew pays for a file, a mapping and page faults each time, which takes longer than
reading raw pictures does. This memory is mapped once and used again and again. It needs no room in /dev/shm, of
which containers have little.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np


class Ring:
    """Room for the pixels of a few batches: batch n lies in slot n modulo their number.

    Picklable while a process is spawned; a forked one just has it. Whoever writes batch n must know that nobody
    reads batch n - slots any more.

    Args:
        slots: batches that it has room for.
        shape: of a batch's pixels, (b, S, S, 3).
    """

    def __init__(self, slots: int, shape: tuple[int, ...]) -> None:
        file = _anonymous_file()
        os.ftruncate(file, slots * int(np.prod(shape)) + 1)
        self._open(file, slots, shape)

    def _open(self, file: int, slots: int, shape: tuple[int, ...]) -> None:
        self._file, self.slots, self.shape = file, slots, shape
        memory = np.frombuffer(mmap.mmap(file, 0), np.uint8)
        self._pixels, self._closed = memory[:-1].reshape(slots, *shape), memory[-1:]

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrived, (reduction.DupFd(self._file), self.slots, self.shape)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __getitem__(self, number: int) -> np.ndarray:
        """Where the pixels of batch ``number`` lie, uint8 (b, S, S, 3)."""
        return self._pixels[number % self.slots]

    @property
    def closed(self) -> bool:
        """Whether some process has said that no more batches are wanted."""
        return bool(self._closed[0])

    def close(self) -> None:
        """Say so, to all."""
        self._closed[0] = 1


def _arrived(file: Any, slots: int, shape: tuple[int, ...]) -> Ring:
    ring = Ring.__new__(Ring)
    ring._open(file.detach(), slots, shape)
    return ring


def _anonymous_file() -> int:
    """A file without a name, in memory where the system can."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
