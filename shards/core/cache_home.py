"""The directory for everything that can be fetched or computed again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_home() -> Path:
    """Return ~/.cache/cgan-trainer, or its counterpart below XDG_CACHE_HOME if that is an absolute path."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "cgan-trainer"  # noqa: PTH117
