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

from shards.core import file_lock, text_files
from shards.core.atomic_io import write_bytes
from shards.core.errors import UserError

STALE_AFTER = 120.0  # seconds without a heartbeat after which a holder counts as dead
_HEARTBEAT = 10.0  # seconds
_MAX_BYTES = 1 << 16


class RunLock:
    """A context that holds ``RUN/lock.json``.

    Raises:
        UserError: on entering, if another live process holds it.
    """

    def __init__(self, run: Path) -> None:
        self.path = run / "lock.json"
        self._stop = threading.Event()
        self._directory: int | None = None  # an open handle, which follows the directory when it is moved
        self._me = {
            "run": os.path.abspath(run),  # noqa: PTH100 - of a directory that may not exist yet
            "host": socket.gethostname(),
            "machine": _machine(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID"),
            "try": int(os.environ.get("SLURM_RESTART_COUNT", "0")),
        }

    def __enter__(self) -> RunLock:
        run = self.path.parent
        with file_lock.locked(run / ".lock", f"{run} is being started by another process at this moment; try again"):
            holder = self._holder()
            if holder is not None:
                raise UserError(
                    "in-use",
                    f"{run} is being written by process {holder['pid']} on {holder['host']}; "
                    "wait for it, stop it, or use another --run",
                )
            self._write_heartbeat()
        self._directory = os.open(run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
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
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def held(self) -> bool:
        """Return True if this process still holds the lock, or the disk does not answer."""
        try:
            return self._read() == self._me
        except OSError:
            return True

    def loss(self) -> str:
        """Return how this process lost the lock, as a clause."""
        if self.path.exists() or self._directory is None:
            return "was taken over by another process while this one was suspended"
        if os.fstat(self._directory).st_nlink == 0:
            return "was removed while it was trained"
        with contextlib.suppress(OSError):
            now = Path(f"/proc/self/fd/{self._directory}").readlink()
            if now.samefile(f"/proc/self/fd/{self._directory}") and now != self.path.parent.absolute():
                return f"was moved to {now} while it was trained; continue it with --run {now}"
        return "lost its lock.json while it was trained"

    def _holder(self) -> dict[str, Any] | None:
        """Return the living process that holds the lock, or None."""
        holder = self._read()
        if holder is None:
            return None
        if all(holder.get(key) == self._me[key] for key in ("host", "machine")):
            if self._is_copy(holder):
                return None
            return holder if holder.get("started") == _started(holder["pid"]) is not None else None
        if holder.get("job") and holder["job"] == self._me["job"] and holder.get("try", 0) < self._me["try"]:
            return None  # SLURM ended that attempt before it started this one
        try:
            return None if time.time() - self.path.stat().st_mtime > STALE_AFTER else holder
        except FileNotFoundError:
            return None

    def _is_copy(self, holder: dict[str, Any]) -> bool:
        """Return whether the lock came with a copy of the run directory, whose original the holder still writes."""
        original = holder.get("run")
        if not isinstance(original, str) or original == self._me["run"]:
            return False
        with contextlib.suppress(OSError):
            theirs = Path(original)
            return _read(theirs / "lock.json") == holder and not theirs.samefile(self.path.parent)
        return False

    def _read(self) -> dict[str, Any] | None:
        """Return the content of the lock file; None if it is missing or damaged."""
        try:
            return _read(self.path)
        except FileNotFoundError:
            return None

    def _write_heartbeat(self) -> None:
        write_bytes(self.path, json.dumps(self._me).encode())

    def _refresh_heartbeat(self) -> None:
        while not self._stop.wait(_HEARTBEAT) and self.held():
            with contextlib.suppress(OSError):
                os.utime(self.path)


def _read(path: Path) -> dict[str, Any] | None:
    """Return the content of a lock file; None if it is damaged.

    Raises:
        OSError: it cannot be read.
    """
    try:
        holder = text_files.read_json(path, _MAX_BYTES)
    except ValueError:
        return None
    if not isinstance(holder, dict) or not isinstance(holder.get("host"), str):
        return None
    pid, attempt = holder.get("pid"), holder.get("try", 0)
    return holder if type(pid) is int and 0 < pid < 1 << 31 and type(attempt) is int else None


def _machine() -> str:
    """Return the id of the process table that process ids refer to: containers may share a host name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115
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
        return stat.read_text(encoding="utf-8").rpartition(")")[2].split()[19]  # ticks since boot (proc(5), field 22)
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return None
