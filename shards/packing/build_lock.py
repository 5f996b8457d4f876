"""Locks on the build folder: it belongs to one job, or to the jobs of one --part division, each for its part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shards.core import atomic_io, file_lock
from shards.packing import plan


@contextlib.contextmanager
def building(out: Path, part: tuple[int, int] | None) -> Iterator[tuple[Path, Path]]:
    """Lock the build folder for this job; yield it and OUT.

    Args:
        out: the dataset directory to create.
        part: (I, N) if this is the I-th of N jobs, from 1; None for a single job.

    Raises:
        UserError: OUT is not empty, or another process packs the same part.
        Failure: a disk error.
    """
    out = atomic_io.require_unused(out)
    build = plan.build_folder(out)
    busy = f"{out}: another process is packing into it; wait for it to finish, or choose another OUT"
    with atomic_io.explain_disk_errors(build):
        build.mkdir(parents=True, exist_ok=True)
    with file_lock.locked(build / "lock", busy, shared=part is not None):
        try:
            with _part_locked(build, *part, busy) if part is not None else contextlib.nullcontext():
                atomic_io.require_unused(out)  # another process may have finished it before the lock was free
                yield build, out
        finally:
            _remove_if_empty(build)


@contextlib.contextmanager
def _part_locked(build: Path, number: int, jobs: int, busy: str) -> Iterator[None]:
    own = build / f"lock-{number}-of-{jobs}"
    with file_lock.locked(own, busy):
        try:
            for other in build.glob("lock-*-of-*"):  # jobs of another division would write the same shards
                if not other.name.endswith(f"-of-{jobs}"):
                    with file_lock.locked(other, busy, shared=True):
                        pass
            yield
        finally:
            own.unlink(missing_ok=True)


def _remove_if_empty(build: Path) -> None:
    """Remove a build folder in which nothing was started."""
    with contextlib.suppress(OSError):
        if {path.name for path in build.iterdir()} <= {"lock", "spool"} and not any(build.glob("spool/*")):
            (build / "lock").unlink(missing_ok=True)
            (build / "spool").rmdir() if (build / "spool").exists() else None
            build.rmdir()
