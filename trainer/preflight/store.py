"""Where the ranks of a check meet: a key-value store on rank 0, over plain TCP.

Facts travel through it and not through collectives, so that a report comes about also where collectives hang, and can
say which ranks are missing. Whatever is waited for has a limit.
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

_GONE = "rank 0 is gone; what it printed last says why"
_LATER = 5.0  # seconds of waiting after which it is worth a line


class Meeting:
    """This rank's place among the ranks, and the store that they share.

    Args:
        seconds: how long ranks are waited for.

    Raises:
        UserError: the variables that a launcher sets are not there.
        Failure: rank 0 does not come, or cannot listen where the ranks were told to meet.
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
                f"RANK and WORLD_SIZE say that a launcher started this, and the rest of a rank's place is missing "
                f"({error}); unset both, or let the launcher set all of it"
            ) from None
        # Nodes of a cluster that is only pretended share one host name.
        self.node = os.environ.get("SLURMD_NODENAME") or socket.gethostname()
        self._store = self.connect()

    def connect(self) -> Any:
        """A connection to the store, torch's TCPStore; who waits holds one for himself, so a thread needs its own."""
        first = self.rank == 0 and not hasattr(self, "_store")
        if not first:
            self._reach()
        limit = timedelta(seconds=self.seconds)
        make = dist.TCPStore  # pyright: ignore[reportPrivateImportUsage] - torch documents it there
        try:
            return make(self.address, self.port, self.world, first, limit, wait_for_workers=False)
        except (dist.DistError, RuntimeError) as error:
            said = str(error).strip().splitlines()[0]
            reason = re.search(r"message: ([^),]+)", said)
            what = "cannot listen" if first else "cannot be spoken to"
            raise Failure(f"rank 0 {what} at {self.address}:{self.port} ({reason[1] if reason else said})") from None

    def _reach(self) -> None:
        """Wait for rank 0 to listen: torch, which would wait too, does not say what the matter is.

        Raises:
            Failure: it does not, within the limit.
        """
        end = time.monotonic() + self.seconds
        while True:
            try:
                left = max(1.0, end - time.monotonic())
                return socket.create_connection((self.address, self.port), timeout=left).close()
            except OSError as error:
                if time.monotonic() > end:
                    raise Failure(
                        f"rank 0 did not answer at {self.address}:{self.port} within {self.seconds:g} s, as seen from "
                        f"{self.node} ({error.strerror or error}): it has not come, or the network does not let this "
                        "through"
                    ) from None
            time.sleep(0.2)

    def put(self, name: str, value: Any) -> None:
        """Leave this rank's value (anything JSON) under a name.

        Raises:
            Failure: rank 0 is gone.
        """
        try:
            self._store.set(f"{name}/{self.rank}", json.dumps(value))
        except (dist.DistError, RuntimeError):
            raise Failure(_GONE) from None

    def get(self, name: str, rank: int, seconds: float) -> Any:
        """What a rank has left, or leaves within some seconds; None if it does not."""
        return self.collect(name, [rank], seconds).get(rank)

    def collect(
        self,
        name: str,
        ranks: Iterable[int],
        seconds: float,
        waiting: Callable[[list[int]], None] = lambda missing: None,
    ) -> dict[int, Any]:
        """What the ranks have left under a name; who is missing after some seconds, is not in it.

        Args:
            waiting: hears now and then who is missing.
        """
        found: dict[int, Any] = {}
        missing, end, said = list(ranks), time.monotonic() + seconds, time.monotonic() + _LATER
        while missing:
            try:
                there = [rank for rank in missing if self._store.check([f"{name}/{rank}"])]
                found |= {rank: json.loads(self._store.get(f"{name}/{rank}")) for rank in there}
            except (dist.DistError, RuntimeError):
                raise Failure(_GONE) from None
            missing = [rank for rank in missing if rank not in found]
            now = time.monotonic()
            if now > end:
                break
            if now > said:
                waiting(missing)
                said = now + _LATER
            if missing:
                time.sleep(0.001 if now < end - seconds + 1 else 0.02)  # a clock is compared in the first second
        return found

    def assemble(self, waiting: Callable[[list[int]], None]) -> dict[int, str]:
        """The ranks that have come within the limit, with the nodes that they are on: the same on every rank.

        Raises:
            Failure: rank 0 is gone, or has not counted this rank.
        """
        self.put("here", self.node)
        if self.rank == 0:
            self.put("roll", self.collect("here", range(self.world), self.seconds, waiting))
        roll = self.get("roll", 0, self.seconds + 10)
        if roll is None or str(self.rank) not in roll:
            raise Failure(f"rank {self.rank} on {self.node} came too late, or rank 0 is gone")
        return {int(rank): node for rank, node in roll.items()}
