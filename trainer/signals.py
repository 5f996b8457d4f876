"""Asking a run to stop: signals and a lost launcher set a flag, the loop saves and leaves.

Imported before torch, whose import takes seconds in which a signal would otherwise kill the process.
"""

from __future__ import annotations

import os
import signal
from types import FrameType

_received: str | None = None
_parent = os.getppid()  # noted at once: a launcher that dies during the imports is missed too
_launched = False


def install() -> None:
    """Turn SIGINT, SIGTERM and SIGUSR1 (a scheduler's warning) into a request to stop; a second Ctrl-C leaves now."""
    global _launched
    for name in ("SIGTERM", "SIGUSR1", "SIGINT"):
        signal.signal(getattr(signal, name), _handle)
    # `accelerate launch` marks its children so. When only the launcher is signalled it dies alone and would leave
    # the trainer writing on unseen; a shell that exits (nohup) is no such case.
    _launched = "ACCELERATE_MIXED_PRECISION" in os.environ


def request() -> str | None:
    """Why this process should stop ("SIGTERM", "the launcher is gone"), or None."""
    if _received is None and _launched and os.getppid() != _parent:
        return "the launcher is gone"
    return _received


def _handle(number: int, frame: FrameType | None) -> None:
    global _received
    name = signal.Signals(number).name
    if _received is not None and number == signal.SIGINT:
        raise KeyboardInterrupt
    _received = name
