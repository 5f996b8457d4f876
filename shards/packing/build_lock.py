"""The folder in which a data set is packed, held by one job alone, or by the jobs of one division each for its part."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from shards.core import atomic_io
from shards.packing import plan


@contextlib.contextmanager
def building(out: Path, share: tuple[int, int] | None) -> Iterator[tuple[Path, Path]]:
    """The build folder, locked for this job, and OUT.

    Args:
        out: the folder to make.
        share: which of how many jobs this is, from 1; None: the only one.

    Raises:
        UserError: OUT holds something, or another process packs into it what this one would.
        Failure: the disk refuses.
    """
    out = atomic_io.require_unused(out)
    build = plan.build_folder(out)
    busy = f"{out}: another process is packing into it now; wait for it, or choose another OUT"
    with atomic_io.explain_disk_errors(build):
        build.mkdir(parents=True, exist_ok=True)
    with atomic_io.file_lock(build / "lock", busy, shared=share is not None):
        try:
            with _part_locked(build, *share, busy) if share is not None else contextlib.nullcontext():
                atomic_io.require_unused(out)  # another process may have finished it before the lock was free
                yield build, out
        finally:
            _leave(build)


@contextlib.contextmanager
def _part_locked(build: Path, number: int, jobs: int, busy: str) -> Iterator[None]:
    own = build / f"lock-{number}-of-{jobs}"
    with atomic_io.file_lock(own, busy):
        try:
            for other in build.glob("lock-*-of-*"):  # jobs of another division would write the same shards
                if not other.name.endswith(f"-of-{jobs}"):
                    with atomic_io.file_lock(other, busy, shared=True):
                        pass
            yield
        finally:
            own.unlink(missing_ok=True)


def _leave(build: Path) -> None:
    """Take away a build folder in which nothing was begun."""
    with contextlib.suppress(OSError):
        if {path.name for path in build.iterdir()} <= {"lock", "spool"} and not any(build.glob("spool/*")):
            (build / "lock").unlink(missing_ok=True)
            (build / "spool").rmdir() if (build / "spool").exists() else None
            build.rmdir()
