"""The processes of a job tell each other that they leave, so that one of them says why, and the right thing.

A collective that fails knows only that somebody is missing. Each process therefore listens at a port of its own, in a
thread, and whoever leaves with an error goes round once: what the others answer says who is still there, who has left,
and who is lost. The first to notice speaks, and of those that notice together the lowest; where a broken network keeps
them apart, one on each side.
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

_ANSWER = 3.0  # seconds that another process has to accept, and as many to answer
_LINE = 256  # bytes, at most
_MOST_AT_ONCE = 64

HERE, LOST, FAILED = "here", "lost", "failed"  # what a process says of itself
ENDED, UNREACHABLE, SILENT = "ended", "unreachable", "silent"  # what another finds instead of an answer


@dataclass(frozen=True)
class Place:
    """Where a process is, and at which port it listens."""

    host: str
    address: str
    port: int
    pid: int
    secret: str  # rank 0's is asked of everyone: what others send to the port is not heard


class Peers:
    """This process among the others of its job; every process makes one at the same moment.

    Args:
        rank: this process's.
        gather: every process's value, in the order of ranks.
    """

    def __init__(self, rank: int, gather: Callable[[Place], list[Place]]) -> None:
        self.rank = rank
        address = own_address()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, 0), family=family, backlog=_MOST_AT_ONCE)
        port = self._listener.getsockname()[1]
        self.places = gather(Place(socket.gethostname(), address, port, os.getpid(), secrets.token_hex(8)))
        self._state, self._closed = HERE, False
        self._left: dict[int, str] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, name="peers", daemon=True).start()

    def leave(self, state: str) -> tuple[bool, dict[int, str]]:
        """Tell the others that this process leaves.

        Args:
            state: FAILED, for a reason of its own, or LOST, because another one is missing.

        Returns:
            Whether this process is the one to say why, and each process that is lost with what was found of it:
            ENDED, UNREACHABLE or SILENT. This takes some seconds at most.
        """
        with self._lock:
            self._state, before = state, dict(self._left)
        others = [rank for rank in range(len(self.places)) if rank != self.rank and rank not in before]
        with ThreadPoolExecutor(min(_MOST_AT_ONCE, len(others)) or 1) as pool:
            answers = dict(zip(others, pool.map(self._tell, others), strict=True))
        with self._lock:
            left = dict(self._left)
        lost = {rank: found for rank, found in answers.items() if found in (ENDED, UNREACHABLE, SILENT)}
        return speaks(self.rank, state, before, left, answers), {r: f for r, f in lost.items() if r not in left}

    def describe(self, lost: Mapping[int, str]) -> str:
        """What is to be said of lost processes, those of one machine that met the same together."""
        parts = []
        for host, found in dict.fromkeys((self.places[rank].host, found) for rank, found in lost.items()):
            ranks = [rank for rank, f in lost.items() if (self.places[rank].host, f) == (host, found)]
            parts.append(_fate(host, ranks, [self.places[rank].pid for rank in ranks], found))
        return "; ".join(parts)

    def close(self) -> None:
        """Listen no more."""
        self._closed = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _tell(self, rank: int) -> str:
        """Tell another process, and see what it answers, or does not."""
        place = self.places[rank]
        reached = False
        try:
            with socket.create_connection((place.address, place.port), timeout=_ANSWER) as line:
                reached = True
                line.settimeout(_ANSWER)
                line.sendall(f"{self.places[0].secret} {self.rank} {self._state}\n".encode())
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
        """Take what one process says, and answer; whoever does not know the secret is hung up on."""
        with contextlib.suppress(OSError, ValueError), line:
            line.settimeout(_ANSWER)
            secret, rank, state = _read(line).split(" ")
            if secrets.compare_digest(secret.encode(), self.places[0].secret.encode()):
                with self._lock:
                    self._left[int(rank)] = state
                    answer = self._state
                line.sendall(f"{answer}\n".encode())


def speaks(
    rank: int, state: str, before: Mapping[int, str], left: Mapping[int, str], answers: Mapping[int, str]
) -> bool:
    """Whether a process that leaves is the one to say why.

    Args:
        rank: its own.
        state: FAILED or LOST.
        before: what others had said when they left, before it did.
        left: the same, and those that left in the same moment.
        answers: what it was answered.
    """
    if state == FAILED:
        return FAILED not in before.values() and not any(r < rank and a == FAILED for r, a in answers.items())
    if FAILED in left.values() or FAILED in answers.values() or LOST in before.values():
        return False
    # Who is here may not come to notice for long: it waits for a slow disk, say. So the first to notice speaks.
    return not any(r < rank and a == LOST for r, a in [*left.items(), *answers.items()])


def _read(line: socket.socket) -> str:
    """A line, without its end; what came of it, if the connection ends."""
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
