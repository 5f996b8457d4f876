"""Offsets of the members of any tar: only headers are read, and nothing is unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shards.core.errors import UserError

_BLOCK = 512  # bytes; two blocks of zeros end a tar
_END_BYTES = 1 << 16  # checked after the end: writers fill their last record with some thousand zeros


class Member(NamedTuple):
    """One regular file in a tar."""

    key: str  # of its sample: WebDataset's rule, the path up to the first dot of the file name
    extension: str  # what follows that dot, in lower case: "jpg", "cls", "seg.png"
    offset: int  # of its content, in bytes from the beginning of the tar
    length: int  # of its content, in bytes
    name: str  # its path in the tar


def members(tar: Path) -> Iterator[Member]:
    """Yield the regular files in an uncompressed tar, in its order; links, devices and sparse files are skipped.

    Raises:
        UserError: the file is not a tar, or damaged.
    """
    try:
        with tarfile.open(tar, "r:", encoding="utf-8") as archive:
            end = -1
            for member in archive:
                if member.offset <= end or member.size < 0:  # with a negative size, tarfile would loop
                    raise tarfile.ReadError("a member of impossible size")
                end = member.offset
                folder, slash, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if member.isreg() and not member.issparse():
                    key = folder + slash + stem
                    yield Member(key, extension.lower(), member.offset_data, member.size, member.name)
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - it would keep every header
        _check_end(tar, archive.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError("tar-damaged", f"{tar}: not a readable tar ({error})") from None


def _check_end(tar: Path, at: int) -> None:
    """Check that a tar ends at ``at``: tarfile stops silently at a damaged header too, and skips all that follows.

    Raises:
        ValueError: there is data at ``at`` or after the zeros there.
    """
    with tar.open("rb") as file:
        file.seek(at)
        rest = file.read(_END_BYTES)
    if rest.strip(b"\0"):
        raise ValueError(f"damaged or cut off at byte {at:,}, or another tar follows there")


def has_end_mark(tar: Path) -> bool:
    """Return whether a tar ends with zeros, as it does unless it was cut off (or written by an unusual program).

    Raises:
        OSError: it cannot be read.
    """
    with tar.open("rb") as file:
        file.seek(max(0, tar.stat().st_size - _BLOCK))
        return not file.read().strip(b"\0")
