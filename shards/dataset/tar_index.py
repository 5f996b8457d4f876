"""Where the members of a tar lie, whoever wrote it: only headers are read, and nothing is ever unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shards.core.errors import UserError

_BLOCK = 512  # bytes; two blocks of zeros end a tar
_LOOKED_AT = 1 << 16  # bytes behind the end: writers fill their last record up, with some thousand zeros


class Member(NamedTuple):
    """One regular file in a tar."""

    key: str  # the sample that it belongs to: WebDataset's rule, the first dot of the file's name ends it
    extension: str  # what follows that dot, in lower case: "jpg", "cls", "seg.png"
    offset: int  # of its content, in bytes from the tar's beginning
    length: int  # of its content, in bytes


def members(tar: Path) -> Iterator[Member]:
    """The regular files in an uncompressed tar, in its order; links, devices and sparse files are passed over.

    Raises:
        UserError: no tar, or a damaged one.
    """
    try:
        with tarfile.open(tar, "r:") as archive:
            end = -1
            for member in archive:
                if member.offset <= end or member.size < 0:  # a size below zero leads back: tarfile would go round
                    raise tarfile.ReadError("a member of impossible size")
                end = member.offset
                folder, slash, name = member.name.rpartition("/")
                stem, _, extension = name.partition(".")
                if member.isreg() and not member.issparse():
                    yield Member(folder + slash + stem, extension.lower(), member.offset_data, member.size)
                archive.members.clear()  # pyright: ignore[reportAttributeAccessIssue] - or it keeps every header
        _see_that_it_ends(tar, archive.offset)
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{tar}: not a readable tar ({error})") from None


def _see_that_it_ends(tar: Path, at: int) -> None:
    """Tell an end from a damaged header: tarfile stops at either, in silence, and passes over all that follows.

    Raises:
        ValueError: there is something at ``at``, where a header should begin, or behind the zeros there.
    """
    with tar.open("rb") as file:
        file.seek(at)
        rest = file.read(_LOOKED_AT)
    if rest.strip(b"\0"):
        raise ValueError(f"damaged or cut off at byte {at:,}, or another tar follows there")


def has_end_mark(tar: Path) -> bool:
    """Whether a tar ends in zeros: one that was cut off between two members does not, nor those of some odd writers.

    Raises:
        OSError: it cannot be read.
    """
    with tar.open("rb") as file:
        file.seek(max(0, tar.stat().st_size - _BLOCK))
        return not file.read().strip(b"\0")
