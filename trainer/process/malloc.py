"""Large tensors on a CPU without a system call each.

glibc gives every block over 32 MB back to the system when it is freed and asks for it again a moment later; a step of
the article's networks then spends almost half of its time on page faults. A training loop frees what it will need
again at once, so the process keeps its memory instead.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed() -> None:
    """Let this process keep freed memory for its next allocation, if the C library is glibc; elsewhere do nothing."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
