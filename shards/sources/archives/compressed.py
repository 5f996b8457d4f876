"""Decompression of tars: once, in pieces, into plain tars in the spool folder that allow random access."""

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
from shards.sources.image_refs import is_plausible_size

COMPRESSED = re.compile(r"\.(tar\.(gz|bz2|xz)|tgz|tbz2?|txz)$", re.IGNORECASE)

_OPENERS: dict[str, Any] = {"gz": gzip.open, "bz": bz2.open, "xz": lzma.open}  # by .tar.gz and .tgz alike
_PIECE = 1 << 20  # bytes in memory


def decompressed(tar: Path, spool: Path | None) -> Path:
    """Return the path of a tar without compression: ``tar`` itself, or a copy in the spool folder.

    The copy is made unless an earlier run made it. It has the modification time of the original, so that the stamps
    of the images in it do not depend on when it was made.

    Raises:
        UserError: the tar cannot be decompressed, there is no spool folder, or the size suggests a decompression bomb.
        Failure: the copy cannot be written.
    """
    if not COMPRESSED.search(tar.name):
        return tar
    if spool is None:
        raise UserError("pack-only-source", f"{tar}: compressed tars can only be packed (cgan pack); or unpack it")
    try:
        status = tar.stat()
    except OSError as error:
        raise UserError("file-unreadable", f"{tar}: cannot be read ({error.strerror})") from None
    copy = spool / f"{hashlib.sha256(f'{tar} {status.st_size}'.encode(errors='replace')).hexdigest()[:16]}.tar"
    with atomic_io.explain_disk_errors(spool):
        spool.mkdir(parents=True, exist_ok=True)
        if copy.exists() and copy.stat().st_mtime_ns == status.st_mtime_ns:
            return copy
    with atomic_io.atomic_writer(copy) as out:
        for piece in _pieces(tar, status.st_size):
            out.write(piece)
        out.flush()
        os.utime(out.fileno(), ns=(status.st_mtime_ns, status.st_mtime_ns))  # before it appears under its name
    return copy


def _pieces(tar: Path, size: int) -> Iterator[bytes]:
    """Yield the decompressed content of a tar of ``size`` bytes; raise UserError if that fails."""
    done = 0
    try:
        with _OPENERS[tar.suffix.lower().lstrip(".t")[:2]](tar) as packed:
            while piece := packed.read(_PIECE):
                done += len(piece)
                if not is_plausible_size(size, done):
                    raise UserError(
                        "decompression-bomb",
                        f"{tar}: refused: its {size:,} bytes decompress to more than {done:,}; unpack it yourself",
                    )
                yield piece
    except (OSError, EOFError, lzma.LZMAError, zlib.error) as error:
        raise UserError("file-damaged", f"{tar}: cannot be decompressed ({error}); recreate it") from None
