"""A key-value store on rank 0 that all ranks of a check share over TCP.

Facts are sent through it and not by collectives, so that there is a report even if collectives hang, and missing ranks
can be named. All waiting is limited in time.
"""

from __future__ import annotations

import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

import torch.distributed as dist

from shards.core.errors import Failure, UserError

_GONE = "rank 0 has exited; see its last output"
_PROGRESS_SECONDS = 5.0  # between two progress lines


class SharedStore:
    """This rank's number and node, and the store that the ranks share.

    Args:
        seconds: time limit for waiting for ranks.

    Raises:
        UserError: variables that a launcher sets are missing.
        Failure: rank 0 does not answer, or cannot listen at MASTER_ADDR:MASTER_PORT.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        try:
            self.rank, self.world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
            self.local_rank, self.local_world = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
            self.address, self.port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
            if not self.address:
                raise KeyError("MASTER_ADDR")
        except (KeyError, ValueError) as error:
            raise UserError(
                "launcher-variables",
                f"RANK and WORLD_SIZE are set, but other variables of a launcher are missing ({error}); unset both, or "
                "let the launcher set all of them",
            ) from None
        # The nodes of a simulated cluster share one host name.
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._store = self.connect()

    def connect(self) -> Any:
        """Return a connection to the store (a TCPStore). A waiting caller blocks it, so every thread needs its own."""
        first = self.rank == 0 and not hasattr(self, "_store")
        if not first:
            self._wait_for_rank_0()
        limit = timedelta(seconds=self.seconds)
        make = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage] - torch documents it there
        try:
            return make(self.address, self.port, self.world, first, limit, wait_for_workers=False)
        except (dist.DistError, RuntimeError) as error:
            text = str(error).strip().splitlines()[0]
            reason = re.search(r"message: ([^),]+)", text)
            what = "cannot listen" if first else "cannot be reached"
            raise Failure(
                "rank-0-unreachable", f"rank 0 {what} at {self.address}:{self.port} ({reason[1] if reason else text})"
            ) from None

    def _wait_for_rank_0(self) -> None:
        """Wait until rank 0 listens; torch would wait, too, but without a useful error.

        Raises:
            Failure: it does not listen within the time limit.
        """
        end = time.monotonic() + self.seconds
        while True:
            try:
                left = max(1.0, end - time.monotonic())
                return socket.create_connection((self.address, self.port), timeout=left).close()
            except OSError as error:
                if time.monotonic() > end:
                    raise Failure(
                        "rank-0-unreachable",
                        f"rank 0 did not answer {self.node} at {self.address}:{self.port} within {self.seconds:g} s "
                        f"({error.strerror or error}): it was not started, or the network blocks the connection",
                    ) from None
            time.sleep(0.2)

    def put(self, name: str, value: Any) -> None:
        """Store this rank's value (JSON) under a name.

        Raises:
            Failure: rank 0 has exited.
        """
        try:
            self._store.set(f"{name}/{self.rank}", json.dumps(value))
        except (dist.DistError, RuntimeError):
            raise Failure("rank-0-unreachable", _GONE) from None

    def get(self, name: str, rank: int, seconds: float) -> Any:
        """Return a rank's value, waiting for up to ``seconds``; None if there is none."""
        return self.collect(name, [rank], seconds).get(rank)

    def collect(
        self,
        name: str,
        ranks: Iterable[int],
        seconds: float,
        waiting: Callable[[list[int]], None] = lambda missing: None,
    ) -> dict[int, Any]:
        """Return the values of ranks under a name, without those that are missing after ``seconds``.

        Args:
            name: of the value.
            ranks: whose values to wait for.
            seconds: time limit.
            waiting: called from time to time with the missing ranks.
        """
        found: dict[int, Any] = {}
        missing, end, progress = list(ranks), time.monotonic() + seconds, time.monotonic() + _PROGRESS_SECONDS
        while missing:
            try:
                arrived = [rank for rank in missing if self._store.check([f"{name}/{rank}"])]
                found |= {rank: json.loads(self._store.get(f"{name}/{rank}")) for rank in arrived}
            except (dist.DistError, RuntimeError):
                raise Failure("rank-0-unreachable", _GONE) from None
            missing = [rank for rank in missing if rank not in found]
            now = time.monotonic()
            if now > end:
                break
            if now > progress:
                waiting(missing)
                progress = now + _PROGRESS_SECONDS
            if missing:
                time.sleep(0.001 if now < end - seconds + 1 else 0.02)  # short, for the comparison of clocks
        return found

    def assemble(self, waiting: Callable[[list[int]], None]) -> dict[int, str]:
        """Return the nodes of all ranks that have connected within the time limit; equal on every rank.

        Raises:
            Failure: rank 0 has exited, or this rank connected too late.
        """
        self.put("here", self.node)
        if self.rank == 0:
            self.put("nodes", self.collect("here", range(self.world), self.seconds, waiting))
        nodes = self.get("nodes", 0, self.seconds + 10)
        if nodes is None or str(self.rank) not in nodes:
            raise Failure(
                "rank-0-unreachable", f"rank {self.rank} on {self.node} connected too late, or rank 0 has exited"
            )
        return {int(rank): node for rank, node in nodes.items()}
