"""Pictures inside other files: where the bytes lie, so that any process reads one without keeping a file open."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shards.sources.item import LARGEST

_RATIO = 200  # unpacked bytes to a packed one that are believed, past the first 64 MiB
_LOCAL = struct.Struct("<4s5H3L2H")  # a zip member's own header; its name and extra field follow


def piece(path: str | Path, offset: int, length: int) -> bytes:
    """``length`` bytes at ``offset`` of a file.

    Raises:
        OSError: it cannot be read, is shorter, or the piece is larger than any picture.
    """
    if length > LARGEST:
        raise OSError(0, f"refused: {length:,} bytes")
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a million of them
        data = os.pread(file.fileno(), length, offset)
        while len(data) < length and (more := os.pread(file.fileno(), length - len(data), offset + len(data))):
            data += more
    if len(data) < length:
        raise OSError(0, f"{path} ends too early")
    return data


def believable(packed: int, length: int) -> bool:
    """Whether so many packed bytes may unpack to so many, and are no bomb."""
    return length <= (64 << 20) + _RATIO * packed


def file_stamp(path: str | Path) -> str:
    """A file's size and time of change.

    Raises:
        OSError: there is no such file.
    """
    status = os.stat(path)  # noqa: PTH116
    return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class TarMember:
    """A picture in a tar; ``extension`` is what follows the first dot of its name, in lower case."""

    tar: Path
    offset: int
    length: int
    extension: str

    def stamp(self) -> str:
        """The tar's size and time of change, and the place in it."""
        return f"{file_stamp(self.tar)} {self.offset}"

    def read(self) -> bytes:
        """The member's content; raises OSError."""
        return piece(self.tar, self.offset, self.length)


class Place(NamedTuple):
    """Where a zip member lies, as the zip's directory says."""

    header: int  # offset of its local header
    deflated: bool
    packed: int  # bytes in the zip
    length: int  # bytes unpacked
    crc: int


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a zip, stored or deflated."""

    zip: Path
    place: Place

    def stamp(self) -> str:
        """Its length and checksum."""
        return f"{self.place.length} {self.place.crc}"

    def read(self) -> bytes:
        """The member's content.

        Raises:
            OSError: it cannot be read, is damaged, or unpacks to more than is believable.
        """
        place = self.place
        if place.length > LARGEST or not believable(place.packed, place.length):
            raise OSError(0, f"refused: {place.packed:,} bytes that unpack to {place.length:,}")
        fields = _LOCAL.unpack(piece(self.zip, place.header, _LOCAL.size))
        if fields[0] != b"PK\x03\x04":
            raise OSError(0, "damaged (its place in the zip holds no header)")
        data = piece(self.zip, place.header + _LOCAL.size + fields[-2] + fields[-1], place.packed)
        if place.deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, place.length + 1)
            except zlib.error as error:
                raise OSError(0, f"damaged ({error})") from None
        if len(data) != place.length or zlib.crc32(data) != place.crc:
            raise OSError(0, "damaged (its length or checksum differs)")
        return data


@dataclass(frozen=True, slots=True)
class Spooled:
    """A picture that was copied out of a table, one after the other, into a file; ``origin`` is the table's stamp."""

    spool: Path
    offset: int
    length: int
    origin: str

    def stamp(self) -> str:
        """The table's stamp, and the place."""
        return f"{self.origin} {self.offset} {self.length}"

    def read(self) -> bytes:
        """The picture's bytes; raises OSError."""
        return piece(self.spool, self.offset, self.length)
