"""Pointers of Git LFS, which stand in place of files that were not downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from shards.core.errors import UserError
from shards.sources.first_bytes import head, spread
from shards.sources.item import ImageRef

_POINTER = b"version https://git-lfs.github.com/spec/v1"


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
