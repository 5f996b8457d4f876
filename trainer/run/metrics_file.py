"""``metrics.jsonl``: one JSON object per line, the record that is kept whatever the trackers do.

    {"images_seen": 6400, "loss/d": 1.31, "loss/g": 0.72, "speed/images_per_second": 448.0}

Strict JSON: a non-finite number is written as ``null`` and read back as NaN. A process that was killed in the middle of
a line leaves a truncated last line; the reader skips it, and the next writer removes it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

from shards.core.atomic_io import atomic_writer, explain_disk_errors
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
                _cut_back(path, math.inf if keep_until is None else keep_until)
            # Unbuffered: a row is one write call, so even kill -9 between two rows loses nothing.
            self._file = path.open("ab", buffering=0)

    def write(self, images_seen: int, values: Mapping[str, float]) -> None:
        """Append one row; ``values`` are numbers (or 0-dimensional arrays and tensors) by key.

        Raises:
            Failure: the row could not be written (a full disk).
        """
        row = {CLOCK: int(images_seen)} | {key: _strict(value) for key, value in values.items()}
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
    """Yield the complete rows one by one, for files that do not fit in memory."""
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return
    with file:
        for line in file:
            if (row := _parse(line)) is not None:
                yield row


def _strict(value: float) -> float | int | None:
    if isinstance(value, int):
        return int(value)
    number = float(value)
    return number if math.isfinite(number) else None


def _parse(line: bytes) -> dict[str, float] | None:
    """Return the row of a line; None if the line is truncated or foreign."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    if not isinstance(row, dict) or type(row.get(CLOCK)) is not int:
        return None
    return {key: math.nan if value is None else value for key, value in row.items() if _is_number(value)}


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _cut_back(path: Path, keep_until: float) -> None:
    """Keep the complete rows up to ``keep_until``, atomically; a file with nothing to remove stays untouched."""
    with path.open("rb") as old:
        if all(_is_kept(line, keep_until) for line in old):
            return
        old.seek(0)
        with atomic_writer(path) as new:
            new.writelines(line for line in old if _is_kept(line, keep_until))


def _is_kept(line: bytes, keep_until: float) -> bool:
    row = _parse(line)
    return row is not None and row[CLOCK] <= keep_until and line.endswith(b"\n")
