"""Writing that survives a crash: a file or folder appears under its name whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

from shards.core.errors import Failure, UserError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A binary file that takes the place of ``path`` when the block ends well, and vanishes when it does not.

    Written beside, fsynced, renamed; the folder is fsynced too, so that the name survives a power cut.

    Raises:
        Failure: the disk is full, or the folder cannot be written.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with explained(path):
        try:
            with beside.open("wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file's content in one step; raises as `replacing` does."""
    with replacing(path) as file:
        file.write(data)


def write_json(path: Path, content: Any) -> None:
    """Replace a file by JSON text (UTF-8, indented, keys in the order given) in one step."""
    try:
        data = json.dumps(content, indent=1, ensure_ascii=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair, as in a name that is not UTF-8: JSON has an escape for it
        data = json.dumps(content, indent=1).encode()
    write_bytes(path, data + b"\n")


def move_directory(source: Path, target: Path) -> None:
    """Give a finished folder its final name in one step; ``target`` must not exist, or be an empty folder.

    The files in it should have been fsynced already (as `replacing` does).

    Raises:
        Failure: ``target`` holds something, or the disk refuses.
    """
    with explained(target):
        sync_directory(source)
        os.rename(source, target)  # noqa: PTH104 - replaces an empty folder, refuses a full one
        sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Bring a folder's entries (names, renames) to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def explained(path: Path) -> Iterator[None]:
    """Turn what the disk refuses while writing ``path`` into one sentence.

    Raises:
        Failure: no space left, a quota, missing rights, a read-only disk, any other input or output error.
    """
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise Failure(
                f"the disk is full: {path} could not be written; make room and run the same command again"
            ) from error
        raise Failure(f"{path} could not be written: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(path: Path, busy: str, *, shared: bool = False) -> Iterator[None]:
    """Hold a lock file for the length of the block; it frees itself when the process ends in whatever way.

    Args:
        busy: what is to be said if another process holds it.
        shared: beside others that hold it so, too.

    Raises:
        UserError: another process holds it; the message is ``busy``.
    """
    with explained(path):
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(busy) from None
        yield
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def first(names: list[str], limit: int = 5, count: int | None = None) -> str:
    """A list of names for a sentence: the first few, and how many more there are of ``count`` (left out: of these)."""
    more = (len(names) if count is None else count) - len(names[:limit])
    return ", ".join(names[:limit]) + (f" and {more:,} more" if more > 0 else "")


def vacant(out: Path) -> Path:
    """A folder's final name, made absolute, once it is sure that nothing lies there.

    Raises:
        UserError: it holds a data set, or anything else.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100 - a link as OUT keeps its own name
    if out.is_symlink():
        raise UserError(f"{out} is a symlink; give the folder that it leads to, or choose another OUT")
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is there already, and no folder; choose another OUT")
    try:
        names = sorted(path.name for path in out.iterdir()) if out.exists() else []
    except OSError as error:
        raise UserError(f"{out}: cannot be looked into ({error.strerror})") from None
    if "manifest.json" in names:
        raise UserError(f"{out} already holds a data set; choose another OUT, or delete it first (nothing was changed)")
    if names:
        raise UserError(f"{out} already holds something ({first(names, 3)}); choose another OUT (nothing was changed)")
    return out
