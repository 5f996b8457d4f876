"""Pointers of Git LFS, which stand in place of files that were not downloaded; the first bytes of files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from shards.core.errors import UserError
from shards.sources.item import ImageFile, ImageRef

_POINTER = b"version https://git-lfs.github.com/spec/v1"
_SAMPLE = 20  # files whose first bytes are looked at


def check_pointers(root: Path, files: Mapping[str, ImageRef]) -> None:
    """Raise UserError if most files are pointers of Git LFS rather than the files themselves."""
    sample = list(spread(files))
    pointers = [name for name in sample if head(files[name]).startswith(_POINTER)]
    if pointers and len(pointers) * 2 >= len(sample):
        first = root / pointers[0] if root.is_dir() else root
        raise UserError(
            "git-lfs-pointers",
            f"{first}: is a pointer of Git LFS, not the file itself, as are {len(pointers)} of the {len(sample)} files "
            "looked at; run `git lfs install` and `git lfs pull` in the repository, or download the files",
        )


def spread(names: Iterable[str]) -> Iterator[str]:
    """Yield a few names, spread over all of them."""
    listed = list(names)
    yield from listed[:: max(1, len(listed) // _SAMPLE)][:_SAMPLE]


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
