"""Tell files by their first bytes, without reading the rest."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping

from shards.sources.item import ImageFile, ImageRef

_SAMPLE = 20  # files whose first bytes are looked at
_START = 1 << 16  # bytes by which a file is told


def find_files(
    files: Mapping[str, ImageRef],
    endings: str | tuple[str, ...],
    fits: Callable[[str, bytes], bool],
    most: int,
    start: int = _START,
) -> list[str]:
    """Return the files that begin as those of a format do.

    Args:
        files: by name.
        endings: of their names, in lower case.
        fits: told a name and the first bytes, whether the file is of the format.
        most: if more files have the endings, they are notes of single images, and none is returned.
        start: bytes that ``fits`` is told.
    """
    names = [name for name in files if name.lower().endswith(endings)]
    return [name for name in names if fits(name, head(files[name], start))] if len(names) <= most else []


def head(file: ImageRef, count: int = 64) -> bytes:
    """Return the first bytes of a file; nothing if it cannot be read."""
    try:
        if not isinstance(file, ImageFile):
            return file.read()[:count]
        if not os.path.isfile(file.path):  # noqa: PTH113 - many files
            return b""
        with open(file.path, "rb", buffering=0) as opened:  # noqa: PTH123
            return opened.read(count)
    except OSError:
        return b""


def spread(names: Iterable[str]) -> Iterator[str]:
    """Yield a few names, spread over all of them."""
    listed = list(names)
    yield from listed[:: max(1, len(listed) // _SAMPLE)][:_SAMPLE]
