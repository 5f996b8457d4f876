"""One writer a run directory.

A lock file with machine, process id, job id and a heartbeat. It is taken over from a process of this machine that is no
more, from an earlier try of the same job (requeued), and from one of another machine that has been silent for two
minutes. A holder that was thought dead and is not (a suspended machine) finds the lock in other hands and stops.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil

from shards.core.atomic_io import file_lock, write_bytes
from shards.core.errors import UserError

SILENCE = 120.0  # seconds without a heartbeat after which a holder counts as dead
_BEAT = 10.0


class RunLock:
    """Holds ``RUN/lock.json`` while the context is open.

    Raises:
        UserError: on entering, if another live process holds it.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "lock.json"
        self._stop = threading.Event()
        self._me = {
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID"),
            "try": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        }

    def __enter__(self) -> RunLock:
        run = self.path.parent
        with file_lock(run / ".lock", f"{run} is being started by another process at this moment"):
            holder = self._holder()
            if holder is not None:
                raise UserError(
                    f"{run} is being written by process {holder['pid']} on {holder['host']}; "
                    "wait for it, stop it, or give another --run"
                )
            self._beat()
        threading.Thread(target=self._keep_beating, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Ctrl-C does not wait for a checkpoint that is being written: the lock is free when the process is no more.
        if self.held() and (kind is None or issubclass(kind, Exception)):
            with contextlib.suppress(OSError):  # the disk turned read-only: what ended the run is to be said, not this
                self.path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Whether the lock is still this process's own; a disk that does not answer has not said otherwise."""
        try:
            return self._read() == self._me
        except OSError:
            return True

    def _holder(self) -> dict[str, Any] | None:
        """Who else holds the lock and is alive."""
        holder = self._read()
        if holder is None:
            return None
        if all(holder.get(key) == self._me[key] for key in ("host", "machine")):
            return holder if holder.get("started") == _started(int(holder["pid"])) is not None else None
        if holder.get("job") and holder["job"] == self._me["job"] and holder.get("try", 0) < self._me["try"]:
            return None  # SLURM has ended that try before it started this one
        try:
            return None if time.time() - self.path.stat().st_mtime > SILENCE else holder
        except FileNotFoundError:
            return None

    def _read(self) -> dict[str, Any] | None:
        """What the lock file says; None if there is none, or a torn one."""
        try:
            holder = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else None

    def _beat(self) -> None:
        write_bytes(self.path, json.dumps(self._me).encode())

    def _keep_beating(self) -> None:
        while not self._stop.wait(_BEAT) and self.held():
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _machine() -> str:
    """In whose table of processes a process id is to be looked up: containers may share a machine's name."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:  # no Linux
        return ""


def _started(pid: int) -> str | None:
    """When the process of this number began; None if there is none, or a dead one unburied.

    On Linux by a clock that nobody sets: a time of day moves when the clock is corrected.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return str(process.create_time())
        return stat.read_text().rpartition(")")[2].split()[19]  # in ticks since the machine started (proc(5), field 22)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
