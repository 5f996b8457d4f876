"""Tell what kind of file system a path is on."""

from __future__ import annotations

from pathlib import Path

import psutil

# File systems on disks of this machine. Those in memory (tmpfs), those of servers and unknown ones are not listed.
LOCAL_DISKS = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "bcachefs", "zfs", "f2fs", "overlay", "aufs", "apfs", "hfs"}
)


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
