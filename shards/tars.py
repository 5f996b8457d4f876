"""Where the members of a tar lie, whoever wrote it: only headers are read, and nothing is ever unpacked."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shards.errors import UserError


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
    except (tarfile.TarError, OSError, ValueError, OverflowError, RecursionError) as error:
        raise UserError(f"{tar}: not a readable tar ({error})") from None
