"""Checkpoints written while the training goes on.

A save copies all tensors to host memory (the training waits for that), and a thread writes, syncs and names the copy.
The copies are kept from one save to the next, so a run holds everything that a checkpoint holds twice; and there is
one write at a time: a save that comes before the last one is written waits for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from trainer.run.checkpoint import Best
from trainer.run.directory import RunDirectory

Tensors = Mapping[str, Mapping[str, Tensor]]  # by file and name


class Saver:
    """A context that saves one run's checkpoints; no write is under way when it is left (but by Ctrl-C).

    Args:
        run: where to write; its lock is held.
        keep: checkpoints to keep beside the best.
        say: receives a sentence when the training had to wait for an earlier write.
    """

    def __init__(self, run: RunDirectory, keep: int, say: Callable[[str], None]) -> None:
        self.run, self.keep = run, keep
        self._say = say
        self._snapshot = Snapshot()
        self._writing: threading.Thread | None = None
        self._error: Exception | None = None

    @property
    def failed(self) -> bool:
        """Whether the last write has ended badly; `wait` says how. This waits for nothing."""
        return self._error is not None

    def begin(self, values: Mapping[str, Any], tensors: Tensors, best: Best | None = None) -> None:
        """Copy what is to be saved, and start writing it.

        Args:
            values: plain values with ``images_seen``, as `trainer.run.checkpoint.save` takes them.
            best: mark the checkpoint so, as soon as it is there.

        Raises:
            Failure: the write before this one came to nothing.
        """
        started = time.monotonic()
        waited = self._writing is not None and self._writing.is_alive()
        self.wait()
        if waited:
            self._say(
                f"the checkpoint before that of {values['images_seen']:,} images was still being written: waited "
                f"{time.monotonic() - started:.1f} s; a larger --checkpoint-every leaves it more time"
            )
        self._snapshot.take(tensors)
        self._writing = threading.Thread(target=self._write, args=(dict(values), best), name="checkpoint", daemon=True)
        self._writing.start()

    def wait(self) -> None:
        """Return when no write is under way.

        Raises:
            Failure: the last one came to nothing: the disk refuses, or another process has taken the run over.
        """
        if self._writing is not None:
            self._writing.join()
            self._writing = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _write(self, values: Mapping[str, Any], best: Best | None) -> None:
        try:
            self.run.save(values, self._snapshot.taken(), self.keep, best)
        except Exception as error:  # for the training's own thread
            self._error = error

    def __enter__(self) -> Saver:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            return self.wait()
        if issubclass(kind, Exception):  # something else went wrong: what is half written can still become whole
            try:
                self.wait()
            except Exception as failure:
                self._say(f"warning: {failure}")


class Snapshot:
    """Copies of tensors in host memory, which the next copies of the same shapes take the place of."""

    def __init__(self) -> None:
        self._copies: dict[str, dict[str, Tensor]] = {}
        self._copied: torch.cuda.Event | None = None

    def take(self, tensors: Tensors) -> None:
        """Copy; from a GPU without waiting for it, in the order of what was asked of it before."""
        self._copies = {
            file: {name: self._copy(file, name, tensor.detach()) for name, tensor in held.items()}
            for file, held in tensors.items()
        }
        if any(tensor.is_cuda for held in tensors.values() for tensor in held.values()):
            self._copied = torch.cuda.Event()
            self._copied.record()

    def taken(self) -> Tensors:
        """The copies, once they are there."""
        if self._copied is not None:
            self._copied.synchronize()
        return self._copies

    def _copy(self, file: str, name: str, tensor: Tensor) -> Tensor:
        copy = self._copies.get(file, {}).get(name)
        if copy is None or copy.shape != tensor.shape or copy.dtype != tensor.dtype:
            copy = torch.empty_like(tensor, device="cpu", pin_memory=tensor.is_cuda)
        return copy.copy_(tensor, non_blocking=tensor.is_cuda)
