"""Memory-map .npy files whose header was verified.

``numpy.memmap`` trusts a header: an item size of zero bytes kills the process with a division by zero that no handler
catches. So the header is compared with the expected one before the file is mapped.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from shards.core.errors import UserError

_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def open_memmap(path: Path, dtype: np.dtype, shape: tuple[int, ...]) -> np.ndarray:
    """Map a .npy file as a read-only array.

    Args:
        path: the file.
        dtype, shape: its expected content, in C order.

    Raises:
        UserError: the file is missing, damaged, or has other content.
    """
    try:
        with path.open("rb") as file:
            found, fortran, kind = _READERS[np.lib.format.read_magic(file)](file)
            offset, size = file.tell(), os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise UserError("sidecar-missing", f"{path}: missing; copy it back or pack the dataset again") from None
    except Exception as error:  # numpy fails on damaged headers in many ways
        why = f"cannot be read: {error.strerror}" if isinstance(error, OSError) else "its header is damaged"
        raise UserError("sidecar-damaged", f"{path}: not a readable array ({why}); pack the dataset again") from None
    if (kind, found, fortran) != (dtype, shape, False):
        found_type = " ".join(f"{kind} {found}".split())[:120]
        raise UserError(
            "sidecar-damaged", f"{path}: contains {found_type} where the manifest requires {dtype} {shape}; pack again"
        )
    content = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if size != offset + content:
        raise UserError(
            "sidecar-damaged",
            f"{path}: {size:,} bytes where its header requires {offset + content:,}; copy it again or pack again",
        )
    return np.memmap(path, dtype, "r", offset, shape)
