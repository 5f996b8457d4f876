"""Check that the directories of a job are on storage that all its nodes share, as far as this machine can tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from shards.core.errors import UserError
from shards.core.filesystems import LOCAL_DISKS, existing, file_system

_LOCAL_PREFIXES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_MEMORY_TYPES = {"tmpfs", "ramfs", "devtmpfs"}


def check(folders: Mapping[str, Path]) -> str:
    """Check the file systems of the directories that a job needs.

    Args:
        folders: purpose (such as "--run") -> path, which need not exist.

    Returns:
        A warning if a path is on a local disk, else "".

    Raises:
        UserError: no other machine can see a path.
    """
    doubtful = []
    for purpose, path in folders.items():
        kind = file_system(path)
        place = path.resolve()
        if kind in _MEMORY_TYPES or any(place.is_relative_to(top) for top in _LOCAL_PREFIXES):
            raise UserError(
                "local-filesystem",
                f"{purpose} {path} is local to this machine, so other nodes cannot see it; choose a directory on "
                "shared storage (--storage trust, if all nodes do see it)",
            )
        if kind in LOCAL_DISKS:  # which may be exported to the other nodes
            doubtful.append(f"{purpose} {path} ({kind})")
    if not doubtful:
        return ""
    return f"on a local disk: {', '.join(doubtful)}; all nodes must see the same files there (--storage trust)"


def writable(purpose: str, path: Path) -> None:
    """Make sure that a directory is writable or can be created.

    Raises:
        UserError: it is not, or the path is not a directory.
    """
    place = existing(path)
    if not place.is_dir():
        raise UserError("not-a-directory", f"{purpose} {path}: {place} is not a directory")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError("not-writable", f"{purpose} {path}: no permission to write in {place}")
