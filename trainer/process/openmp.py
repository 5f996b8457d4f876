"""How long a thread that waits for the others of its process spins before it sleeps.

GNU's OpenMP, which PyTorch's Linux builds share, lets it spin for milliseconds. That is right on idle cores; where
another process has work for them, each thread spins away the time that the one it waits for would need.
"""

from __future__ import annotations

import os

_TURNS = "1000"  # of its loop: microseconds, what GNU itself takes where it knows of more threads than cores


def bound() -> None:
    """Bound it, before torch is imported; what somebody has set stays."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ["GOMP_SPINCOUNT"] = _TURNS
