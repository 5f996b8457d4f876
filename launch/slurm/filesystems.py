"""Check that the directories of a job are on storage that all its nodes share, as far as this machine can tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from shards.core.errors import UserError

_LOCAL_PREFIXES = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_MEMORY_TYPES = {"tmpfs", "ramfs", "devtmpfs"}
# Local disks, which may be exported to the other nodes.
_DISK_TYPES = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "aufs", "apfs", "hfs"}


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
        if kind in _DISK_TYPES:
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


def file_system(path: Path) -> str:
    """Return the file system type ("nfs4", "lustre", "ext4", …) of an existing or future path; "" if unknown."""
    place = existing(path).resolve()
    mounts = [(Path(part.mountpoint), part.fstype) for part in psutil.disk_partitions(all=True)]
    holding = [
        (len(mount.parts), number, kind) for number, (mount, kind) in enumerate(mounts) if place.is_relative_to(mount)
    ]
    return max(holding)[2] if holding else ""


def existing(path: Path) -> Path:
    """Return the path or its nearest parent directory that exists."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
