"""Failure notices: ranks that exit notify each other, so that exactly one of them reports the cause.

A collective that fails says only that some rank is missing. Each rank therefore listens on a port in a thread, and a
rank that exits with an error contacts all others once: their answers say which ranks are alive, have exited, or are
lost. The first rank to notice reports; of ranks that notice at once, the lowest; in a partitioned network, one on each
side.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from trainer.distributed.network_interfaces import own_address

_ANSWER = 3.0  # seconds for another rank to accept, and again to answer
_LINE = 256  # bytes, at most
_MOST_AT_ONCE = 64

HERE, LOST, FAILED = "here", "lost", "failed"  # the state that a rank reports
ENDED, UNREACHABLE, SILENT = "ended", "unreachable", "silent"  # what another rank sees in place of an answer


@dataclass(frozen=True)
class Endpoint:
    """The address of a rank's listener."""

    host: str
    address: str
    port: int
    pid: int
    secret: str  # all senders must know rank 0's; other traffic is ignored


class Peers:
    """The listener of this rank and the endpoints of all others; all ranks construct it together.

    Args:
        rank: this rank.
        gather: a collective that returns the values of all ranks, in rank order.
    """

    def __init__(self, rank: int, gather: Callable[[Endpoint], list[Endpoint]]) -> None:
        self.rank = rank
        address = own_address()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=_MOST_AT_ONCE)
        port = self._listener.getsockname()[1]
        self.endpoints = gather(Endpoint(socket.gethostname(), address, port, os.getpid(), secrets.token_hex(8)))
        self._state, self._closed = HERE, False
        self._left: dict[int, str] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="peers", daemon=True).start()

    @property
    def departed(self) -> bool:
        """True if another rank has notified this one that it exits."""
        return bool(self._left)

    def ask_next(self) -> str:
        """Ask the next rank whether it is there; return its state, or ENDED, UNREACHABLE or SILENT."""
        return self._tell((self.rank + 1) % len(self.endpoints))

    def leave(self, state: str) -> tuple[bool, dict[int, str]]:
        """Notify the other ranks that this one exits.

        Args:
            state: FAILED: this rank has an error; LOST: another rank is missing.

        Returns:
            True if this rank should report the cause; and the lost ranks with what was found: ENDED, UNREACHABLE or
            SILENT. Takes a few seconds at most.
        """
        with self._lock:
            self._state, before = state, dict(self._left)
        others = [rank for rank in range(len(self.endpoints)) if rank != self.rank and rank not in before]
        with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(others)) or 1) as pool:
            answers = dict(zip(others, pool.map(self._tell, others), strict=True))
        with self._lock:
            left = dict(self._left)
        lost = {rank: found for rank, found in answers.items() if found in (ENDED, UNREACHABLE, SILENT)}
        return should_report(self.rank, state, before, left, answers), {r: f for r, f in lost.items() if r not in left}

    def describe(self, lost: Mapping[int, str]) -> str:
        """Describe lost ranks in one sentence, grouped by machine and cause."""
        parts = []
        for host, found in dict.fromkeys((self.endpoints[rank].host, found) for rank, found in lost.items()):
            ranks = [rank for rank, f in lost.items() if (self.endpoints[rank].host, f) == (host, found)]
            parts.append(_fate(host, ranks, [self.endpoints[rank].pid for rank in ranks], found))
        return "; ".join(parts)

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _tell(self, rank: int) -> str:
        """Notify one rank; return its state, or ENDED, UNREACHABLE or SILENT."""
        place = self.endpoints[rank]
        reached = False
        try:
            with socket.create_connection((place.address, place.port), timeout=_ANSWER) as line:
                reached = True
                line.settimeout(_ANSWER)
                line.sendall(f"{self.endpoints[0].secret} {self.rank} {self._state}\n".encode())
                return _read(line) or ENDED
        except (ConnectionRefusedError, ConnectionResetError, BrokenPipeError):
            return ENDED
        except OSError:
            return SILENT if reached else UNREACHABLE

    def _listen(self) -> None:
        while not self._closed:
            try:
                line, _ = self._listener.accept()
            except OSError:  # closed, or too many files are open just now
                time.sleep(0.1)
                continue
            threading.Thread(target=self._hear, args=(line,), name="peer", daemon=True).start()

    def _hear(self, line: socket.socket) -> None:
        """Receive one notice and answer it; close the connection if the secret is wrong."""
        with contextlib.suppress(OSError, ValueError), line:
            line.settimeout(_ANSWER)
            secret, rank, state = _read(line).split(" ")
            if secrets.compare_digest(secret.encode(), self.endpoints[0].secret.encode()):
                with self._lock:
                    if state != HERE:  # which only asks
                        self._left[int(rank)] = state
                    answer = self._state
                line.sendall(f"{answer}\n".encode())


def should_report(
    rank: int, state: str, before: Mapping[int, str], left: Mapping[int, str], answers: Mapping[int, str]
) -> bool:
    """Return True if a rank that exits should report the cause.

    Args:
        rank: the rank that exits.
        state: FAILED or LOST.
        before: states of the ranks that exited before it.
        left: the same, with those that exited at the same time.
        answers: what the other ranks answered.
    """
    if state == FAILED:
        # A lower rank may have told this one and ended before it could answer.
        failed = [*left.items(), *answers.items()]
        return FAILED not in before.values() and not any(r < rank and a == FAILED for r, a in failed)
    if FAILED in left.values() or FAILED in answers.values() or LOST in before.values():
        return False
    # A rank that is alive may not notice for long, as it waits for a slow disk, say: so the first to notice reports.
    return not any(r < rank and a == LOST for r, a in [*left.items(), *answers.items()])


def _read(line: socket.socket) -> str:
    """Read one line, without its end; a partial one if the connection closes."""
    said = b""
    while not said.endswith(b"\n") and len(said) < _LINE and (more := line.recv(_LINE)):
        said += more
    return said.decode("ascii", "replace").strip()


def _fate(host: str, ranks: Sequence[int], pids: Sequence[int], found: str) -> str:
    many = len(ranks) > 1
    who = f"process{'es' if many else ''} {', '.join(map(str, ranks))} on {host}"
    if found == UNREACHABLE:
        return f"{who} cannot be reached (a cable, a switch, a firewall, or the machine is down)"
    if found == SILENT:
        kill = f"`kill -9 {' '.join(map(str, pids))}` there if {'they stay' if many else 'it stays'} so"
        stands = "are there but do not move" if many else "is there but does not move"
        return f"{who} {stands} (suspended, or waiting for a disk; {kill})"
    return f"{who} {'have' if many else 'has'} ended (out of memory, perhaps; the log there says more)"
