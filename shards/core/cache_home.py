"""The directory for everything that can be fetched or computed again."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def cache_home() -> Path:
    """Return ~/.cache/cgan-trainer, or its counterpart below XDG_CACHE_HOME if that is an absolute path.

    A user without a home, as in a container that runs under a number, has a directory below that for temporary files.
    """
    base = os.environ.get("XDG_CACHE_HOME", "")
    if os.path.isabs(base):  # noqa: PTH117
        return Path(base) / "cgan-trainer"
    try:
        return Path.home() / ".cache" / "cgan-trainer"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / f"cgan-trainer-{os.geteuid()}"


def is_own_file(path: Path) -> bool:
    """Return whether a file exists and belongs to this user: what another user left in a cache is not believed."""
    try:
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False
