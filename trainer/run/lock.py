"""The run lock: one writer per run directory.

A lock file with machine, process id, job id and a heartbeat. It is taken over from a dead process of this machine, from
an earlier attempt of the same job (requeued), and from a process of another machine after two minutes without a
heartbeat.
A holder that was only suspended finds that it no longer holds the lock, and stops.
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

STALE_AFTER = 120.0  # seconds without a heartbeat after which a holder counts as dead
_HEARTBEAT = 10.0  # seconds


class RunLock:
    """A context that holds ``RUN/lock.json``.

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
        with file_lock(run / ".lock", f"{run} is being started by another process at this moment; try again"):
            holder = self._holder()
            if holder is not None:
                raise UserError(
                    "in-use",
                    f"{run} is being written by process {holder['pid']} on {holder['host']}; "
                    "wait for it, stop it, or use another --run",
                )
            self._write_heartbeat()
        threading.Thread(target=self._refresh_heartbeat, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        # Ctrl-C does not wait for a checkpoint that is being written: the end of the process frees the lock.
        if self.held() and (kind is None or issubclass(kind, Exception)):
            with contextlib.suppress(OSError):  # of a read-only disk: what ended the run is reported instead
                self.path.unlink(missing_ok=True)

    def held(self) -> bool:
        """Return True if this process still holds the lock, or the disk does not answer."""
        try:
            return self._read() == self._me
        except OSError:
            return True

    def _holder(self) -> dict[str, Any] | None:
        """Return the living process that holds the lock, or None."""
        holder = self._read()
        if holder is None:
            return None
        if all(holder.get(key) == self._me[key] for key in ("host", "machine")):
            return holder if holder.get("started") == _started(int(holder["pid"])) is not None else None
        if holder.get("job") and holder["job"] == self._me["job"] and holder.get("try", 0) < self._me["try"]:
            return None  # SLURM ended that attempt before it started this one
        try:
            return None if time.time() - self.path.stat().st_mtime > STALE_AFTER else holder
        except FileNotFoundError:
            return None

    def _read(self) -> dict[str, Any] | None:
        """Return the content of the lock file; None if it is missing or truncated."""
        try:
            holder = json.loads(self.path.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return holder if isinstance(holder, dict) and {"host", "pid"} <= holder.keys() else None

    def _write_heartbeat(self) -> None:
        write_bytes(self.path, json.dumps(self._me).encode())

    def _refresh_heartbeat(self) -> None:
        while not self._stop.wait(_HEARTBEAT) and self.held():
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _machine() -> str:
    """Return the id of the process table that process ids refer to: containers may share a host name."""
    try:
        return f"{Path('/proc/sys/kernel/random/boot_id').read_text().strip()} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
    except OSError:  # not Linux
        return ""


def _started(pid: int) -> str | None:
    """Return the start time of a process; None if there is none, or it is a zombie.

    On Linux the time is in ticks since boot: the time of day moves when the clock is corrected.
    """
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        stat = Path(f"/proc/{pid}/stat")
        if not stat.exists():
            return str(process.create_time())
        return stat.read_text().rpartition(")")[2].split()[19]  # ticks since boot (proc(5), field 22)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
