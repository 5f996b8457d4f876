"""Standard streams that never end a program: full, closed, without a reader, or without the letters to be printed.

What a program prints is rarely its result. A disk that is full for a log, a terminal that is gone, or an encoding
without "é" must not end hours of training, so writing to a protected stream never raises; what was lost is remembered.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
from typing import Any, TextIO

_STANDARD = (0, 1, 2)

_lost: OSError | None = None  # why standard output is incomplete
_optional = False


def protect() -> None:
    """Protect this process's standard streams; calling it again, or in a program that replaced them, changes nothing.

    A closed stream becomes the null device: otherwise the next file that is opened gets its number, and what a library
    prints is written into it.
    """
    for number in _STANDARD:
        _open_if_closed(number)
    if sys.stdout is sys.__stdout__:
        sys.stdout = sys.__stdout__ = _protected(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = sys.__stderr__ = _protected(sys.stderr, 2)


def output_is_optional() -> None:
    """Declare that the result of this program is elsewhere, so that output that is lost does not change its status."""
    global _optional
    _optional = True


def lost_output() -> OSError | None:
    """Return why standard output is incomplete; None if it is complete, or optional."""
    if _is_protected(sys.stdout):
        sys.stdout.flush()
    return None if _optional else _lost


def is_without_reader(error: OSError) -> bool:
    """Return whether output was lost because its reader is gone (`… | head`), which is no reason to complain."""
    return error.errno == errno.EPIPE


class _LenientFile(io.FileIO):
    """A standard stream's file, to which writing never fails: what cannot be written is dropped."""

    def write(self, data: Any) -> int:
        """Write all of ``data``, and return its length."""
        rest = memoryview(data).cast("B")
        length = len(rest)
        try:
            while rest:
                written = super().write(rest)
                if written is None:  # the stream does not block, and its reader is slow
                    select.select([], [self], [])
                rest = rest[written or 0 :]
        except OSError as error:
            _note(self.fileno(), error)
        return length


def _note(number: int, error: OSError) -> None:
    """Remember the first failure of standard output, and say it once where it can still be read."""
    global _lost
    if number != 1 or _lost is not None:
        return
    _lost = error
    if not is_without_reader(error):
        kind = "warning" if _optional else "error"
        sys.stderr.write(f"{kind}: standard output cannot be written ({error.strerror}) [output-lost]\n")


def _open_if_closed(number: int) -> None:
    try:
        os.fstat(number)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        os.set_inheritable(number, True)


def _protected(stream: TextIO | None, number: int) -> TextIO:
    """Return a stream with the encoding and the buffering of an existing one (None: it was closed)."""
    if stream is not None and _is_protected(stream):
        return stream
    with contextlib.suppress(AttributeError, OSError):
        stream.flush()  # pyright: ignore[reportOptionalMemberAccess]
    unbuffered = bool(getattr(stream, "write_through", False))
    file = _LenientFile(number, "w", closefd=False)
    return io.TextIOWrapper(
        file if unbuffered else io.BufferedWriter(file),  # type: ignore[arg-type] - as the interpreter itself does
        encoding=getattr(stream, "encoding", None) or "utf-8",
        errors="backslashreplace",
        line_buffering=number == 2 or bool(getattr(stream, "line_buffering", False)),
        write_through=unbuffered,
    )


def _is_protected(stream: TextIO) -> bool:
    buffer = getattr(stream, "buffer", None)
    return isinstance(getattr(buffer, "raw", buffer), _LenientFile)
