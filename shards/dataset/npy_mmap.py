"""Arrays that stay in their files: mapped only when their header says what it should.

``numpy.memmap`` believes a header: one that speaks of items of no bytes ends the process by a division by zero, which
no handler sees. So the header is read and held against what is expected before anything is mapped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shards.core.errors import UserError

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def mapped(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """A .npy file as a read-only array that stays on the disk.

    Args:
        path: the file.
        dtype, shape: what it must hold, in C order.

    Raises:
        UserError: it is missing, no such file, or holds something else.
    """
    try:
        with path.open("rb") as file:
            found, fortran, kind = _READERS[np.lib.format.read_magic(file)](file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise UserError(f"{path}: missing; copy it back or pack the data set again") from None
    except Exception as error:  # numpy's reading of a damaged header fails in many ways
        why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "its header is damaged"
        raise UserError(f"{path}: not a readable array ({why}); pack the data set again") from None
    if (kind, found, fortran) != (dtype, shape, False):
        holds = " ".join(f"{kind} {found}".split())[:120]
        raise UserError(f"{path}: holds {holds} where the manifest needs {dtype} {shape}; pack it again")
    content = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != offset + content:
        raise UserError(
            f"{path}: {size:,} bytes where its header needs {offset + content:,}; copy it again or pack again"
        )
    return np.memmap(path, dtype, "r", offset, shape)
