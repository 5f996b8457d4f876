"""References to images inside other files: path, offset and length, so that any process can read one image."""

from __future__ import annotations

import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from shards.sources.item import MAX_BYTES

_MAX_RATIO = 200  # of unpacked to packed bytes, beyond the first 64 MiB
_PACKED_START = 1024  # bytes that suffice to unpack the first few
_LOCAL_HEADER = struct.Struct("<4s5H3L2H")  # of a zip member; its name and extra field follow


def read_range(path: str | Path, offset: int, length: int) -> bytes:
    """Return ``length`` bytes of a file from ``offset``.

    Raises:
        OSError: the file cannot be read or is too short, or the range is larger than any image.
    """
    if length > MAX_BYTES:
        raise OSError(0, f"refused: {length:,} bytes")
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - a million of them
        data = os.pread(file.fileno(), length, offset)
        while len(data) < length and (more := os.pread(file.fileno(), length - len(data), offset + len(data))):
            data += more
    if len(data) < length:
        raise OSError(0, f"{path} ends too early")
    return data


def is_plausible_size(packed: int, length: int) -> bool:
    """Return False if ``length`` bytes unpacked from ``packed`` bytes suggest a decompression bomb."""
    return length <= (64 << 20) + _MAX_RATIO * packed


def file_stamp(path: str | Path) -> str:
    """Return a file's size and modification time.

    Raises:
        OSError: the file does not exist.
    """
    status = os.stat(path)  # noqa: PTH116
    return f"{status.st_size} {status.st_mtime_ns}"


@dataclass(frozen=True, slots=True)
class TarMember:
    """An image in a tar; ``extension`` is what follows the first dot of its name, in lower case."""

    tar: Path
    offset: int
    length: int
    extension: str

    def stamp(self) -> str:
        """Return the tar's size and modification time, and the offset."""
        return f"{file_stamp(self.tar)} {self.offset}"

    def read(self) -> bytes:
        """Return the member's content; raise OSError if it cannot be read."""
        return read_range(self.tar, self.offset, self.length)

    def start(self, count: int) -> bytes:
        """Return the first bytes of the member's content; raise OSError if they cannot be read."""
        return read_range(self.tar, self.offset, min(count, self.length))


class ZipEntry(NamedTuple):
    """A zip member according to the zip's central directory."""

    header: int  # offset of its local header
    deflated: bool
    packed: int  # bytes in the zip
    length: int  # bytes unpacked
    crc: int


@dataclass(frozen=True, slots=True)
class ZipMember:
    """A file in a zip, stored or deflated."""

    zip: Path
    entry: ZipEntry

    def stamp(self) -> str:
        """Return the member's length and checksum."""
        return f"{self.entry.length} {self.entry.crc}"

    def read(self) -> bytes:
        """Return the member's content.

        Raises:
            OSError: it cannot be read, is damaged, or unpacks to an implausible size.
        """
        entry = self.entry
        if entry.length > MAX_BYTES or not is_plausible_size(entry.packed, entry.length):
            raise OSError(0, f"refused: {entry.packed:,} bytes that unpack to {entry.length:,}")
        data = read_range(self.zip, self._offset(), entry.packed)
        if entry.deflated:
            try:
                data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, entry.length + 1)
            except zlib.error as error:
                raise OSError(0, f"damaged ({error})") from None
        if len(data) != entry.length or zlib.crc32(data) != entry.crc:
            raise OSError(0, "damaged (its length or checksum differs)")
        return data

    def start(self, count: int) -> bytes:
        """Return the first bytes of the member's content, unchecked.

        Raises:
            OSError: they cannot be read, or are damaged.
        """
        data = read_range(self.zip, self._offset(), min(self.entry.packed, count + _PACKED_START))
        try:
            return zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, count) if self.entry.deflated else data[:count]
        except zlib.error as error:
            raise OSError(0, f"damaged ({error})") from None

    def _offset(self) -> int:
        """Return where the packed bytes begin."""
        fields = _LOCAL_HEADER.unpack(read_range(self.zip, self.entry.header, _LOCAL_HEADER.size))
        if fields[0] != b"PK\x03\x04":
            raise OSError(0, "damaged (no header at its offset in the zip)")
        return self.entry.header + _LOCAL_HEADER.size + fields[-2] + fields[-1]


@dataclass(frozen=True, slots=True)
class SpooledImage:
    """An image that was copied from a table into a spool file; ``origin`` is the table's stamp."""

    spool: Path
    offset: int
    length: int
    origin: str

    def stamp(self) -> str:
        """Return the table's stamp, and the offset and length."""
        return f"{self.origin} {self.offset} {self.length}"

    def read(self) -> bytes:
        """Return the image's bytes; raise OSError if they cannot be read."""
        return read_range(self.spool, self.offset, self.length)
