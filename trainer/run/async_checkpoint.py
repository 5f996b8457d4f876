"""Asynchronous checkpointing: a background thread writes while the training continues.

A save copies all tensors to host memory, which blocks the training, and a thread writes the copy. The copies are reused
by the next save, so a run holds the content of a checkpoint twice. There is one write at a time: a save that comes
before the previous one is written waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trainer.run import host_buffer
from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory

Tensors = Mapping[str, Mapping[str, Tensor]]  # by file and name


class AsyncCheckpointer:
    """A context that saves checkpoints of one run; leaving it waits for the last write (except on Ctrl-C).

    Args:
        run: the run directory, whose lock this process holds.
        keep: number of checkpoints to keep, the best not counted.
        log: receives a sentence when the training had to wait for an earlier write.
    """

    def __init__(self, run: RunDirectory, keep: int, log: Callable[[str], None]) -> None:
        self.run, self.keep = run, keep
        self._log = log
        self._snapshot = Snapshot()
        self._writing: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        """True if the last write has failed; `wait` raises its error. Never blocks."""
        return self._error is not None

    def save(self, values: Mapping[str, Any], tensors: Tensors, best: Best | None = None) -> None:
        """Copy the tensors, and start writing the copy.

        Args:
            values: plain values with ``images_seen`` (see `trainer.run.checkpoint.save`).
            tensors: by file and name.
            best: mark the checkpoint as the best once it is written.

        Raises:
            Failure: the previous write failed.
        """
        started = time.monotonic()
        waited = self._writing is not None and self._writing.is_alive()
        self.wait()
        if waited:
            self._log(
                f"waited {time.monotonic() - started:.1f} s at {values['images_seen']:,} images for the previous "
                "checkpoint to be written; a larger --checkpoint-every leaves more time"
            )
        self._snapshot.take(tensors)
        self._writing = threading.Thread(target=self._write, args=(dict(values), best), name="checkpoint", daemon=True)
        self._writing.start()

    def wait(self) -> None:
        """Block until no write is in progress.

        Raises:
            Failure: the last write failed: the disk is full, or another process has taken the run over.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, values: Mapping[str, Any], best: Best | None) -> None:
        try:
            self.run.save(values, self._snapshot.get(), self.keep, best)
        except Exception as error:  # raised in the training's thread
            self._error = error

    def __enter__(self) -> AsyncCheckpointer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            return self.wait()
        if issubclass(kind, Exception):  # unrelated to the write, which can still be completed
            try:
                self.wait()
            except Exception as failure:
                self._log(f"warning: {failure}")


class Snapshot:
    """Copies of tensors in host memory, whose buffer the next copies of the same shapes reuse."""

    def __init__(self) -> None:
        self._layout: host_buffer.Layout = {}
        self._buffer: Tensor | None = None  # all copies are views of it
        self._copies: dict[str, dict[str, Tensor]] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, tensors: Tensors) -> None:
        """Copy all tensors; from a GPU asynchronously, in stream order."""
        on_gpu = any(tensor.is_cuda for held in tensors.values() for tensor in held.values())
        layout, size = host_buffer.layout(tensors)
        if layout != self._layout:
            self._copies, self._buffer = {}, None  # freed before others are allocated
            self._buffer = host_buffer.allocate(size, pinned=on_gpu)
            self._layout, self._copies = layout, host_buffer.views(self._buffer, layout)
        for file, held in tensors.items():
            for name, tensor in held.items():
                self._copies[file][name].copy_(tensor.detach(), non_blocking=tensor.is_cuda)
        if on_gpu:
            self._copied = torch.cuda.Event(blocking=True)
            self._copied.record()

    def get(self) -> Tensors:
        """Return the copies, after waiting for a GPU's asynchronous ones."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copies
