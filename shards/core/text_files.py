"""Read text that others wrote: YAML, JSON and JSON lines, with limits.

A file may be a pipe that never ends, a gigabyte, a hundred thousand brackets, or aliases that multiply. Each of these
is one `UnreadableText` (a ValueError), whose message is a clause to follow the name of the file.
"""

from __future__ import annotations

import codecs
import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

MAX_JSON = 1 << 28  # bytes: the manifest of a million shards
MAX_YAML = 1 << 24  # bytes: a schema of 500,000 values
MAX_LINE = 1 << 20  # bytes of a line of JSON
MAX_DEPTH = 64
MAX_DIGITS = 300  # of a whole number, which then still is a finite float

_KINDS = {
    stat.S_IFIFO: "a pipe",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a directory",
    stat.S_IFSOCK: "a socket",
}
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


class UnreadableText(ValueError):
    """The reason why a text is not read, as a clause: "is a pipe, not a file"."""


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading, without waiting for the writer of a pipe.

    Raises:
        OSError: there is no such file, or it may not be read.
        UnreadableText: it is a pipe, a device or a directory.
    """
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    kind = stat.S_IFMT(os.fstat(handle).st_mode)
    if kind != stat.S_IFREG:
        os.close(handle)
        raise UnreadableText(f"is {_KINDS.get(kind, 'something else')}, not a file")
    return os.fdopen(handle, "rb")


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most ``limit`` bytes; raises like `open_regular`."""
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise UnreadableText(f"is larger than {limit:,} bytes")
    return data


def read_json(path: Path, limit: int = MAX_JSON) -> Any:
    """Return the content of a JSON file; raises like `read_bytes` and `parse_json`."""
    return parse_json(read_bytes(path, limit))


def parse_json(data: bytes | str) -> Any:
    """Return the value of a JSON text.

    Raises:
        UnreadableText: it is not UTF-8 or not JSON, is nested too deeply, or has a number with too many digits.
    """
    text = _decode(data) if isinstance(data, bytes) else data
    try:
        value = json.loads(text, parse_int=_whole_number)
    except RecursionError:
        raise _too_deep() from None
    except UnreadableText:
        raise
    except ValueError as error:
        raise UnreadableText(f"is not valid JSON ({error})") from None
    if text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value)
    return value


def read_yaml(path: Path, limit: int = MAX_YAML) -> Any:
    """Return the content of a YAML file as plain values.

    Raises:
        OSError: there is no such file, or it may not be read.
        UnreadableText: it is not a file or too large, not valid YAML, nested too deeply, or has too many aliases.
    """
    return parse_yaml(_decode(read_bytes(path, limit)))


def parse_yaml(text: str) -> Any:
    """Return the plain value of a YAML text.

    Raises:
        UnreadableText: it is not valid YAML, nested too deeply, or has too many aliases.
    """
    from shards.core.limited_yaml import parse  # here: importing yaml takes time, and most commands read none

    return parse(text)


def lines(file: BinaryIO, limit: int = MAX_LINE) -> Iterator[bytes]:
    """Yield the lines of a file; a line longer than ``limit`` bytes is yielded as an empty one."""
    while line := file.readline(limit):
        if len(line) == limit and not line.endswith(b"\n"):
            while (rest := file.readline(limit)) and not rest.endswith(b"\n"):
                pass
            line = b"\n"
        yield line


def _decode(data: bytes) -> str:
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableText(f"is not {encoding[:6].upper().rstrip('-')} (byte {error.start:,})") from None


def _whole_number(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise UnreadableText(f"has a number of {len(digits):,} digits")
    return int(digits)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
        if not level:
            return
    raise _too_deep()


def _too_deep() -> UnreadableText:
    return UnreadableText(f"is nested more than {MAX_DEPTH} levels deep")
