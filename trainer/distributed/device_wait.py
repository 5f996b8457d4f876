"""Wait for the GPU without losing sight of the other ranks.

A rank whose GPU waits for a lost one in NCCL would wait for its own GPU without end, and inside CUDA it hears nothing:
no error of the connections on CPUs, no signal. So it polls, and watches its contact with the others meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

from trainer.distributed.failure_notices import ENDED, UNREACHABLE, Peers

_POLL = 2e-4  # seconds
_ASK_EVERY = 5.0  # seconds between two questions to the next rank; a step is shorter


class Event(Protocol):
    """The subset of `torch.cuda.Event` that `wait_in_contact` needs."""

    def query(self) -> bool:
        """Return whether the GPU has reached the event; never blocks."""
        ...

    def synchronize(self) -> None:
        """Block until the GPU has reached the event."""
        ...


class LostContact(RuntimeError):
    """Another rank is lost or late, as a collective that fails says of itself."""


def wait_in_contact(event: Event, check_pending: Callable[[], None], peers: Peers, timeout: float) -> None:
    """Wait until the GPU has reached an event, as long as the other ranks are there.

    A rank that is lost shows in a pending collective; or it was missed by another rank, which leaves and says so; or
    the next rank does not find it when it asks. One that is frozen shows in the timeout.

    Args:
        event: recorded on this rank's GPU.
        check_pending: raises the error of a pending collective on CPUs, if it has one; does not block.
        peers: the other ranks.
        timeout: seconds.

    Raises:
        LostContact: another rank is lost, or the GPU did not come in time.
    """
    started = asked = time.monotonic()
    while not event.query():
        check_pending()
        now = time.monotonic()
        if peers.departed:
            raise LostContact("another rank has left")
        if now - started > timeout:
            raise LostContact(f"the GPU waited {timeout:g} s for the others")
        if now - asked > _ASK_EVERY:
            if peers.ask_next() in (ENDED, UNREACHABLE):
                raise LostContact("the next rank does not answer")
            asked = time.monotonic()
        time.sleep(_POLL)
