"""Keep freed memory, so that large CPU tensors need no system calls.

glibc returns every freed block over 32 MB to the system and requests it again a moment later: a step of the article's
networks then spends almost half of its time on page faults. A training loop soon needs again what it frees.
"""

from __future__ import annotations

import ctypes
import sys

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed() -> None:
    """Keep freed memory for the next allocation; does nothing if the C library is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, -1)
