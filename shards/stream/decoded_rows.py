"""A file of decoded pixels, one row per sample, that all processes of a machine fill and read.

A table of checksums, uint64 (N,), is followed by the rows, uint8 (N, H·W·C). There is no other state: a row is there if
its checksum is not 0, and it is used if the checksum of what was read is the same. So processes need not wait for each
other, since they write the same bytes for the same image. One may be killed in the middle of a row, a power failure may
lose rows, a disk may flip bits: such a row is decoded and written again.

Rows are read through a memory map, which takes no system call and no memory besides the page cache: `preadv` takes 3.4
times as long for rows of 32 pixels, 2.2 for 64 and 1.2 for 256. They are written by `pwrite`: on a full disk it raises
an error, while a store to the map would kill the process.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
from pathlib import Path
from typing import Any

import numpy as np

from shards.core.errors import warn
from shards.stream.row_checksum import RowChecksum

_PAGE = 4096
_SPARE = 1 << 30  # bytes of the disk that are left to checkpoints and everything else; less on small disks


class DecodedRows:
    """The rows of one dataset. Picklable; safe after a fork, and for any number of processes and threads.

    The file stays locked (shared) while it is open anywhere, which protects it from being removed as too old.

    Args:
        path: the file, which is created, in an existing directory.
        count: samples, N.
        width: bytes of a row, H·W·C.
        key: identifies the dataset and everything else that decides its pixels.

    Raises:
        OSError: it cannot be created, locked or mapped, or belongs to another user.
    """

    def __init__(self, path: Path, count: int, width: int, key: bytes) -> None:
        self.path, self.count, self.width, self.key = path, count, width, key
        self._checksum = RowChecksum(key, width)
        self._bytes = file_size(count, width)
        self._file = _open_locked(path)
        try:
            self._map()
        except BaseException:
            os.close(self._file)
            raise

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.path, self.count, self.width, self.key)

    def __del__(self) -> None:
        if getattr(self, "_file", -1) >= 0:
            os.close(self._file)

    def _map(self) -> None:
        if os.fstat(self._file).st_size != self._bytes:
            # A hole of the table would be filled when it is read, where files are in memory, and that may fail.
            os.posix_fallocate(self._file, 0, 8 * self.count)
            os.ftruncate(self._file, self._bytes)
        memory = np.frombuffer(mmap.mmap(self._file, self._bytes, prot=mmap.PROT_READ), np.uint8)
        self._sums = memory[: 8 * self.count].view("<u8")
        self._rows = memory[_table_size(self.count) :].reshape(self.count, self.width)

    @property
    def filled(self) -> int:
        """The number of samples that have a row."""
        return int(np.count_nonzero(self._sums))

    def read(self, samples: np.ndarray, pixels: np.ndarray) -> np.ndarray:
        """Read the rows of samples into ``pixels``.

        Args:
            samples: int64 (b,).
            pixels: uint8 (b, H, W, C), contiguous; undefined where a row is not there.

        Returns:
            bool (b,): whether the sample's row is there and intact.
        """
        if not self._is_whole():
            return np.zeros(len(samples), bool)
        rows, sums = pixels.reshape(len(samples), self.width), self._sums[samples]
        there = sums != 0
        if there.all():
            np.take(self._rows, samples, axis=0, out=rows, mode="clip")
        else:  # absent rows are not touched: a hole would be filled, see `_map`
            for number in np.flatnonzero(there):
                rows[number] = self._rows[samples[number]]
        if there.any():
            there &= self._checksum(rows, samples) == sums
        return there

    def write(self, samples: np.ndarray, pixels: np.ndarray) -> None:
        """Write the rows of samples; on a full disk, remove the file with a warning and do nothing from then on.

        Args:
            samples: int64 (b,).
            pixels: uint8 (b, H, W, C), contiguous.
        """
        if not self._is_whole():
            return
        rows = pixels.reshape(len(samples), self.width)
        sums, start = self._checksum(rows, samples).astype("<u8"), _table_size(self.count)
        try:
            self._check_space(rows.nbytes)
            for number, sample in enumerate(samples.tolist()):
                _write(self._file, rows[number], start + sample * self.width)
                _write(self._file, sums[number : number + 1], 8 * sample)
        except OSError as error:
            self._give_up(error)

    def _is_whole(self) -> bool:
        """Return whether the file is in use: reading beyond the end of one that was cut would kill the process."""
        if self._file < 0:
            return False
        found = os.fstat(self._file)
        if found.st_nlink and found.st_size == self._bytes:
            return True
        self.close()  # removed or cut, by a process that has found the disk full or by a person
        return False

    def _check_space(self, need: int) -> None:
        disk = os.fstatvfs(self._file)
        if disk.f_bavail * disk.f_frsize < need + min(_SPARE, disk.f_blocks * disk.f_frsize // 50):
            raise OSError(errno.ENOSPC, "the disk is almost full")

    def _give_up(self, error: OSError) -> None:
        """Remove the file, so that its space is free once all processes have noticed, and close it."""
        if self._unlink():  # only one process can, and prints the warning
            warn(
                "decoded-cache-off",
                f"{self.path}: {error.strerror or error}; the decoded images were removed, and images are decoded each "
                "time (--decoded-cache)",
                anywhere=True,
            )
        self.close()

    def _unlink(self) -> bool:
        try:
            same = self.path.stat().st_ino == os.fstat(self._file).st_ino
            if same:
                self.path.unlink()
        except OSError:
            return False
        return same

    def close(self) -> None:
        """Close the file; `read` finds nothing from then on, and `write` does nothing."""
        file, self._file = self._file, -1
        self._sums, self._rows = np.zeros(0, "<u8"), np.zeros((0, self.width), np.uint8)
        os.close(file)


def file_size(count: int, width: int) -> int:
    """Return the bytes of a file of ``count`` rows of ``width`` bytes, once it is filled."""
    return _table_size(count) + count * width


def lock(path: Path, flags: int, kind: int) -> int:
    """Return a descriptor of a file with a lock of this kind (of `fcntl.flock`), which its closing releases.

    Raises:
        OSError: the file cannot be opened, is no regular file, belongs to another user, or is locked by others.
    """
    file = os.open(path, flags | os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        found = os.fstat(file)
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid():
            raise OSError(errno.EPERM, "it is not a file of this user", str(path))
        fcntl.flock(file, kind)
    except BaseException:
        os.close(file)
        raise
    return file


def _open_locked(path: Path) -> int:
    """Create or open a file and lock it, shared; its time of last use is now."""
    while True:
        file = lock(path, os.O_CREAT, fcntl.LOCK_SH)  # who locks it exclusively does so for a moment
        if os.fstat(file).st_nlink:
            os.utime(file)
            return file
        os.close(file)  # it was removed in between


def _reopen(path: Path, count: int, width: int, key: bytes) -> DecodedRows | None:
    """Return the rows in another process, or None if they cannot be used any more."""
    try:
        return DecodedRows(path, count, width, key)
    except OSError:
        return None


def _table_size(count: int) -> int:
    return -(-8 * count // _PAGE) * _PAGE


def _write(file: int, data: np.ndarray, at: int) -> None:
    view = data.data.cast("B")
    while view.nbytes:
        written = os.pwrite(file, view, at)
        view, at = view[written:], at + written
