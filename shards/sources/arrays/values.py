"""The values of arrays: label arrays as labels of rows, and numbers of any range as 8-bit pixels."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from shards.core import atomic_io
from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.sources.arrays.files import Array
from shards.sources.arrays.pixels import Pixels, arrangement
from shards.sources.cells import sanitize

_BLOCK = 1 << 24  # values in memory
_MAX_LABELS = 1 << 28  # values of a label array


def labels(array: Array, names: list[str] | None, problems: Problems) -> Iterator[Any]:
    """Yield the label of each row, as a cell of a table: a class, tags, or a list of numbers.

    Rows with a single 1 among zeros are classes; rows of zeros and ones are tags.
    """
    values = array.values[:]
    if values.size > _MAX_LABELS:
        raise UserError("array-too-large", f"{array.label}: {values.size:,} values are too many for labels")
    table: np.ndarray[tuple[int, int], Any] = np.asarray(values)
    table = table.reshape(-1, 1) if 1 in table.shape or table.ndim < 2 else table.reshape(len(table), -1)
    width = table.shape[1]
    if table.dtype.kind in "SU":
        yield from (sanitize(_text(value)) for value in table[:, 0].tolist())
    elif width == 1:
        yield from (table[:, 0].astype(np.int64) if table.dtype.kind in "bu" else table[:, 0]).tolist()
    elif not np.isin(table, (0, 1)).all():
        yield from table.astype(np.float64).tolist()
    elif (table.sum(1) == 1).all():
        problems.add("rows-one-hot", array.label, count=len(table))
        yield from table.argmax(1).tolist()
    else:
        problems.add("rows-of-flags", array.label, count=len(table))
        words = names if names and len(names) == width else [f"label {i}" for i in range(width)]
        yield from ({"tags": [words[i] for i in np.flatnonzero(row)]} for row in table)


def _text(value: str | bytes) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def pixels(array: Array, spool: Path | None, problems: Problems) -> Pixels:
    """Return where the images of an array are as 8-bit pixels; they are copied to the spool if they are not yet.

    Raises:
        UserError: the range of the values is not clear, or there is no spool.
    """
    arranged = arrangement(array.shape[1:])
    assert arranged is not None
    shape, axes = arranged[0], array.axes or arranged[1]
    if len(array.shape) == 2:
        planes = " x ".join(map(str, shape))
        problems.add("rows-as-images", array.label, detail=planes, count=array.shape[0])
    low, high = _range(array)
    gain, shift, said = _scale(array, low, high)
    if said:
        problems.add("pixels-rescaled", array.label, detail=said, count=array.shape[0])
    if array.path is not None and shift == 0 and gain in (1, 255):
        return Pixels(array.path, array.start, array.step, shape, axes, int(gain))
    if spool is None:
        raise UserError("pack-only-source", f"{array.label}: its images are converted, so it can only be packed")
    step = int(np.prod(shape))
    copy = (
        spool / f"pixels-{hashlib.sha256(f'{array.label} {array.stamp}'.encode(errors='replace')).hexdigest()[:20]}.bin"
    )
    if not copy.exists():
        _convert(array, copy, gain, shift)
    return Pixels(copy, 0, step, shape, axes, 1, array.stamp)


def _blocks(array: Array) -> Iterator[np.ndarray]:
    rows = max(1, _BLOCK // max(1, int(np.prod(array.shape[1:]))))
    for start in range(0, array.shape[0], rows):
        yield np.asarray(array.values[start : start + rows])


def _range(array: Array) -> tuple[float, float]:
    """Return the lowest and highest value; of bytes, only whether any exceeds 1."""
    low, high = np.inf, -np.inf
    for block in _blocks(array):
        low, high = min(low, float(block.min())), max(high, float(block.max()))
        if array.values.dtype == np.uint8 and high > 1:
            return 0.0, 255.0
    return low, high


def _scale(array: Array, low: float, high: float) -> tuple[float, float, str]:
    """Return (gain, shift, description) that bring values to 0…255: value * gain + shift."""
    kind = array.values.dtype.kind
    if not np.isfinite([low, high]).all():
        raise UserError("pixel-range-unclear", f"{array.label}: its images have values that are not finite")
    if low >= 0 and high <= 1:
        return 255.0, 0.0, "0 to 1"
    if low >= -1 and high <= 1 and kind == "f":
        return 127.5, 127.5, "-1 to 1"
    if low >= 0 and high <= 255:
        return 1.0, 0.0, ""
    if low >= 0 and high <= 65535 and kind in "iu":
        return 1 / 257, 0.0, "0 to 65,535"
    raise UserError(
        "pixel-range-unclear",
        f"{array.label}: its values go from {low:g} to {high:g}, which is no range of pixels; save them as uint8",
    )


def _convert(array: Array, copy: Path, gain: float, shift: float) -> None:
    with atomic_io.explain_disk_errors(copy.parent):
        copy.parent.mkdir(parents=True, exist_ok=True)
    with atomic_io.atomic_writer(copy) as out:
        for block in _blocks(array):
            if gain != 1 or shift:
                block = np.rint(block * gain + shift)
            out.write(np.ascontiguousarray(block.astype(np.uint8)).tobytes())
