"""Compressed tars: unpacked once, piece by piece, into plain ones beside OUT, to be read at any place."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from shards.core import atomic_io
from shards.core.errors import UserError
from shards.sources.image_refs import believable

COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)

_OPENERS: dict[str, Any] = {"gz": gzip.open, "bz": bz2.open, "xz": lzma.open}  # by .tar.gz and .tgz alike
_PIECE = 1 << 20  # bytes in memory


def plain(tar: Path, spool: Path | None) -> Path:
    """A tar as one that is not compressed: itself, or its copy in the spool, which is made unless an earlier run has.

    The copy bears the original's time of change: a picture in it has one stamp whenever it is unpacked.

    Raises:
        UserError: it cannot be unpacked, or unpacks to more than is believable.
        Failure: the disk refuses.
    """
    if not COMPRESSED.search(tar.name):
        return tar
    if spool is None:
        raise UserError(f"{tar}: compressed tars can only be packed, with python -m shards pack; or unpack it first")
    try:
        status = tar.stat()
    except OSError as error:
        raise UserError(f"{tar}: cannot be read ({error.strerror})") from None
    copy = spool / f"{hashlib.sha256(f'{tar} {status.st_size}'.encode(errors='replace')).hexdigest()[:16]}.tar"
    with atomic_io.explained(spool):
        spool.mkdir(parents=True, exist_ok=True)
        if copy.exists() and copy.stat().st_mtime_ns == status.st_mtime_ns:
            return copy
    with atomic_io.replacing(copy) as out:
        for piece in _pieces(tar, status.st_size):
            out.write(piece)
        out.flush()
        os.utime(out.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))  # before others can see it
    return copy


def _pieces(tar: Path, size: int) -> Iterator[bytes]:
    """What a compressed tar of ``size`` bytes holds; raises UserError where that cannot be."""
    done = 0
    try:
        with _OPENERS[tar.suffix.lower().lstrip(".t")[:2]](tar) as packed:
            while piece := packed.read(_PIECE):
                done += len(piece)
                if not believable(size, done):
                    raise UserError(
                        f"{tar}: refused: {size:,} bytes that unpack to more than {done:,}; unpack it yourself"
                    )
                yield piece
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError(f"{tar}: cannot be unpacked ({error}); make it anew") from None
