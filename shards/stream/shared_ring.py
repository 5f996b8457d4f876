"""A ring buffer in memory that data workers and the trainer share: pixels cross between them without being sent.

Sharing each batch separately costs a file, a mapping and page faults per batch, which takes longer than reading raw
pixels. This memory is mapped once and reused. It takes no space in /dev/shm, of which containers have little.
"""

from __future__ import annotations

import mmap
import os
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np


class SharedRing:
    """Slots for the pixels of a few batches: batch n is in slot n modulo the number of slots.

    Picklable while a process is spawned; forked processes inherit it. The writer of batch n must know that no reader
    uses batch n - slots any more.

    Args:
        slots: number of batches that fit.
        shape: shape of a batch's pixels, (b, H, W, C).
    """

    def __init__(self, slots: int, shape: tuple[int, ...]) -> None:
        file = _anonymous_file()
        os.ftruncate(file, slots * int(np.prod(shape)) + 1)
        self._map(file, slots, shape)

    def _map(self, file: int, slots: int, shape: tuple[int, ...]) -> None:
        self._file, self.slots, self.shape = file, slots, shape
        memory = np.frombuffer(mmap.mmap(file, 0), np.uint8)
        self._pixels, self._closed = memory[:-1].reshape(slots, *shape), memory[-1:]

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickle, (reduction.DupFd(self._file), self.slots, self.shape)

    def __del__(self) -> None:
        if hasattr(self, "_file"):
            os.close(self._file)

    def __getitem__(self, number: int) -> np.ndarray:
        """Return the slot of batch ``number``, uint8 (b, H, W, C)."""
        return self._pixels[number % self.slots]

    @property
    def closed(self) -> bool:
        """True once a process has called `close`: no more batches are wanted."""
        return bool(self._closed[0])

    def close(self) -> None:
        """Tell all processes that no more batches are wanted."""
        self._closed[0] = 1


def _unpickle(file: Any, slots: int, shape: tuple[int, ...]) -> SharedRing:
    ring = SharedRing.__new__(SharedRing)
    ring._map(file.detach(), slots, shape)
    return ring


def _anonymous_file() -> int:
    """Return the descriptor of a file without a name, in memory where the system supports it."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())
