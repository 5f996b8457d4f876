"""Whether the folders of a job lie where its nodes can see them, as far as this machine can tell."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import psutil

from shards.core.errors import UserError

_OF_ONE_MACHINE = ("/tmp", "/var/tmp", "/dev/shm", "/run")
_IN_MEMORY = {"tmpfs", "ramfs", "devtmpfs"}
# A disk of this machine; it may well be exported to the others.
_DISKS = {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "overlay", "aufs", "apfs", "hfs"}


def check(folders: Mapping[str, Path]) -> str:
    """Look at the file systems of what a job needs.

    Args:
        folders: purpose ("--run") -> path; it need not exist.

    Returns:
        A sentence to warn with where a path lies on a disk of this machine; else nothing.

    Raises:
        UserError: a path lies where no other machine can see it.
    """
    doubtful = []
    for purpose, path in folders.items():
        kind = file_system(path)
        place = path.resolve()
        if kind in _IN_MEMORY or any(place.is_relative_to(top) for top in _OF_ONE_MACHINE):
            raise UserError(
                f"{purpose} {path} is of this machine alone, and a node would not find it; choose a place on shared "
                "storage (--storage trust, if all nodes do see it)"
            )
        if kind in _DISKS:
            doubtful.append(f"{purpose} {path} ({kind})")
    if not doubtful:
        return ""
    return f"on a disk of this machine: {', '.join(doubtful)}; every node must see the same there (--storage trust)"


def writable(purpose: str, path: Path) -> None:
    """Make sure that a folder can be made or written.

    Raises:
        UserError: it cannot, or is no folder.
    """
    place = existing(path)
    if not place.is_dir():
        raise UserError(f"{purpose} {path}: {place} is no folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise UserError(f"{purpose} {path} cannot be written: no right to write in {place}")


def file_system(path: Path) -> str:
    """The type of the file system ("nfs4", "lustre", "ext4", …) that a path lies on, or will; empty if unknown."""
    place = existing(path).resolve()
    mounts = [(Path(part.mountpoint), part.fstype) for part in psutil.disk_partitions(all=True)]
    holding = [
        (len(mount.parts), number, kind) for number, (mount, kind) in enumerate(mounts) if place.is_relative_to(mount)
    ]
    return max(holding)[2] if holding else ""


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(place for place in (path.absolute(), *path.absolute().parents) if place.exists())
