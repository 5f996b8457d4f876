"""``metrics.jsonl``: one JSON object per line, the record that is kept whatever the trackers do.

    {"images_seen": 6400, "loss/d": 1.31, "loss/g": 0.72, "speed/images_per_second": 448.0}

Strict JSON: a non-finite number is written as ``null`` and read back as NaN. A process that was killed in the middle of
a line leaves a truncated last line; the reader skips it, and the next writer removes it.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from shards.core import text_files
from shards.core.atomic_io import atomic_writer, explain_disk_errors
from shards.core.errors import Failure
from trainer.metric_names import CLOCK


class MetricsFile:
    """Append rows to a metrics file; a row has been passed to the operating system when ``write`` returns.

    Args:
        path: the file; created if it does not exist.
        keep_until: first remove the rows with more ``images_seen`` than this, to resume from a checkpoint; None keeps
            every complete row.

    Raises:
        Failure: the file cannot be written.
    """

    def __init__(self, path: Path, keep_until: int | None = None) -> None:
        self.path = path
        with explain_disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                with _explained(path):
                    _cut_back(path, math.inf if keep_until is None else keep_until)
            # Unbuffered: a row is one write call, so even kill -9 between two rows loses nothing.
            self._file = path.open("ab", buffering=0)

    def write(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Append one row; ``values`` are numbers (or 0-dimensional arrays and tensors) by key.

        Raises:
            Failure: the row could not be written (a full disk).
        """
        row = {CLOCK: int(images_seen)} | strict_row(values)
        line = json.dumps(row, allow_nan=False).encode() + b"\n"
        with explain_disk_errors(self.path):
            while line:
                line = line[self._file.write(line) :]

    def close(self) -> None:
        """Flush the rows to the disk and close the file; closing twice is harmless."""
        if not self._file.closed:
            os.fsync(self._file.fileno())
            self._file.close()

    def __enter__(self) -> MetricsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def read(path: Path) -> list[dict[str, float]]:
    """Return all complete rows in file order, ``null`` as NaN; a missing file has none."""
    return list(rows(path))


def rows(path: Path) -> Iterator[dict[str, float]]:
    """Yield the complete rows one by one, for files that do not fit in memory.

    Raises:
        Failure: it is not a file.
    """
    if not path.exists():
        return
    with _explained(path), text_files.open_regular(path) as file:
        for line in text_files.lines(file):
            if (row := _parse(line)) is not None:
                yield row


def restore_row(path: Path, images_seen: int, values: Mapping[str, float]) -> None:
    """Write the row of a checkpoint's step if the file lacks it: the disk was full when it was logged.

    Rows with more ``images_seen`` are removed, as they are when a run resumes.

    Raises:
        Failure: the file cannot be written.
    """
    if values and all(row[CLOCK] != images_seen for row in rows(path)):
        with MetricsFile(path, keep_until=images_seen) as file:
            file.write(images_seen, values)


def strict_row(values: Mapping[str, float]) -> dict[str, float | int | None]:
    """Return numbers (or 0-dimensional arrays and tensors) as strict JSON values: None for one that is not finite."""
    return {key: _strict(value) for key, value in values.items()}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except text_files.UnreadableText as error:
        raise Failure("file-unreadable", f"{path} {error}") from None


def _strict(value: float) -> float | int | None:
    if isinstance(value, int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _parse(line: bytes) -> dict[str, float] | None:
    """Return the row of a line; None if the line is truncated or foreign."""
    try:
        row = text_files.parse_json(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get(CLOCK)) is not int:
        return None
    return {key: math.nan if value is None else value for key, value in row.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cut_back(path: Path, keep_until: float) -> None:
    """Keep the complete rows up to ``keep_until``, atomically; a file with nothing to remove stays untouched."""
    with text_files.open_regular(path) as old:
        if all(_is_kept(line, keep_until) for line in text_files.lines(old)):
            return
        old.seek(0)
        with atomic_writer(path) as new:
            new.writelines(line for line in text_files.lines(old) if _is_kept(line, keep_until))


def _is_kept(line: bytes, keep_until: float) -> bool:
    row = _parse(line)
    return row is not None and row[CLOCK] <= keep_until and line.endswith(b"\n")
