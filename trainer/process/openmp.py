"""Limit how long an OpenMP thread spins before it sleeps while it waits for other threads.

GNU OpenMP, which PyTorch's Linux builds use, spins for milliseconds. That is right on idle cores; on shared cores each
spinning thread takes time from the thread that it waits for.
"""

from __future__ import annotations

import os

_TURNS = "1000"  # iterations, i.e. microseconds: GNU OpenMP's own value when there are more threads than cores


def limit_spinning() -> None:
    """Limit the spinning, unless the environment sets it already; call this before torch is imported."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _TURNS
