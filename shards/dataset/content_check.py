"""Check the sidecars of a local dataset against the hashes in its manifest, each content once.

Labels that belong to another dataset, or a copy that lost a bit, fit in size and would be trained on. Hashing gigabytes
at every start takes seconds on every process, so the cache directory remembers which file had which hash: by inode,
size and times. The time of the last change of the inode cannot be set, so a file that was replaced is hashed again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path
from typing import Any

from shards.core import self_hash, text_files
from shards.core.atomic_io import sha256, write_json
from shards.core.cache_home import cache_home, is_own_file
from shards.core.errors import Failure, UserError
from shards.dataset.manifest import MANIFEST

_SETTLED = 2.0  # seconds after a change until the times of a file tell the next change apart


def check_manifest(manifest: dict[str, Any], where: str) -> None:
    """Check a manifest against its own hash, if it has one.

    Raises:
        UserError: it was altered.
    """
    if self_hash.is_intact(manifest) is False:
        raise UserError(
            "manifest-invalid",
            f"{where}/{MANIFEST}: altered since it was packed (its seal does not match); copy it back or pack again",
        )


def check_sidecars(folder: Path, manifest: dict[str, Any], names: list[str]) -> None:
    """Check sidecars against the hashes in the manifest; those without one cannot be checked.

    Raises:
        UserError: a sidecar has other content.
        Failure: it cannot be read.
    """
    hashes = manifest.get("sidecars")
    if not isinstance(hashes, dict):
        return
    note = _Note(folder)
    for name in names:
        expected = hashes.get(name)
        if isinstance(expected, str) and not note.knows(name, expected) and _hash(folder / name) != expected:
            raise UserError(
                "sidecar-damaged",
                f"{folder / name}: its content is not what was packed (its sha256 differs from the manifest's); "
                "copy it back or pack again",
            )
    note.save({name: hashes[name] for name in names if isinstance(hashes.get(name), str)})


class _Note:
    """Remembered hashes of a dataset's sidecars: sha256 and signature by name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        name = hashlib.sha256(os.fsencode(folder.absolute())).hexdigest()[:32]
        self._path = cache_home() / "checked" / f"{name}.json"
        self._known: dict[str, Any] = {}
        if not is_own_file(self._path):
            return
        with contextlib.suppress(OSError, ValueError):
            content = text_files.read_json(self._path, text_files.MAX_LINE)
            self._known = content if isinstance(content, dict) else {}

    def knows(self, name: str, expected: str) -> bool:
        """Return whether the file is as it was when it had this hash."""
        return self._known.get(name) == [expected, *_signature(self._folder / name)]

    def save(self, hashes: dict[str, str]) -> None:
        """Remember the hashes of files that have not changed just now."""
        settled = {
            name: [value, *_signature(self._folder / name)]
            for name, value in hashes.items()
            if time.time() - (self._folder / name).stat().st_ctime > _SETTLED
        }
        if settled == self._known:
            return
        with contextlib.suppress(OSError, Failure):  # a cache that cannot be written: hashed again next time
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_json(self._path, settled)


def _signature(path: Path) -> list[int]:
    found = path.stat()
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def _hash(path: Path) -> str:
    try:
        return sha256(path)
    except OSError as error:
        raise Failure("file-unreadable", f"{path}: cannot be read ({error.strerror})") from None
