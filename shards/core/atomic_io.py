"""Crash-safe writes: a file or directory appears under its name complete, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.core.errors import Failure, UserError


@contextlib.contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Yield a binary file that replaces ``path`` if the block succeeds, and is removed if it fails.

    It is written under a temporary name in the same directory, fsynced and renamed; the directory is fsynced too, so
    that the name survives a power failure.

    Raises:
        Failure: the disk is full, or the directory is not writable.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explain_disk_errors(path):
        try:
            with temporary.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        fsync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the content of a file atomically; raises like `atomic_writer`."""
    with atomic_writer(path) as file:
        file.write(data)


def write_json(path: Path, content: Any) -> None:
    """Replace a file atomically by JSON text (UTF-8, indented, keys in the given order)."""
    try:
        data = json.dumps(content, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # a lone surrogate, as in a file name that is not UTF-8: JSON can escape it
        data = json.dumps(content, indent=1).encode()
    write_bytes(path, data + b"\n")


def move_directory(source: Path, target: Path) -> None:
    """Rename a finished directory atomically; ``target`` must not exist, or be an empty directory.

    The files in it should have been fsynced already, as `atomic_writer` does.

    Raises:
        Failure: ``target`` is not empty, or the disk reports an error.
    """
    with explain_disk_errors(target):
        fsync_directory(source)
        os.rename(source, target)  # noqa: PTH104 - replaces an empty directory, refuses a full one
        fsync_directory(target.parent)


def fsync_directory(path: Path) -> None:
    """Flush the entries of a directory (new names, renames) to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def explain_disk_errors(path: Path) -> Iterator[None]:
    """Turn an OSError raised while ``path`` is written into one sentence.

    Raises:
        Failure: no space left, quota exceeded, missing permissions, a read-only disk, any other I/O error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Failure(
                "disk-full", f"the disk is full: {path} could not be written; free some space and re-run the command"
            ) from error
        raise Failure("disk-error", f"{path} could not be written: {error.strerror or error}") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal.

    Raises:
        OSError: it cannot be read, or is not a file (a pipe would never end).
    """
    if not path.is_file():
        raise OSError(errno.ENOENT if not path.exists() else errno.EINVAL, "not a file", str(path))
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def join_names(names: list[str], limit: int = 5, count: int | None = None) -> str:
    """Return the first ``limit`` names, and how many more there are of ``count`` (default: of ``names``)."""
    more = (len(names) if count is None else count) - len(names[:limit])
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def require_unused(out: Path) -> Path:
    """Return ``out`` as an absolute path, after checking that it is free: no such path, or an empty directory.

    Raises:
        UserError: it contains a dataset or anything else, or is not a directory.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - a symlink keeps its name, to be refused
    if out.is_symlink():
        raise UserError("output-is-symlink", f"{out} is a symlink; give the directory it points to, or another path")
    if out.exists() and not out.is_dir():
        raise UserError("output-exists", f"{out} exists and is not a directory; choose another path")
    try:
        names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    except OSError as error:
        raise UserError("folder-unreadable", f"{out}: cannot be listed ({error.strerror})") from None
    if "manifest.json" in names:
        raise UserError(
            "output-exists",
            f"{out} already contains a dataset; choose another path, or delete it first (nothing was changed)",
        )
    if names:
        raise UserError(
            "output-exists",
            f"{out} is not empty ({join_names(names, 3)}); choose another path (nothing was changed)",
        )
    return out
