"""Files that systems, notebooks and network drives leave among images."""

from __future__ import annotations

JUNK_FOLDERS = frozenset(
    {"__macosx", "@eadir", "#recycle", "#snapshot", "$recycle.bin", "lost+found", "system volume information"}
    | {"recycler", ".trash", ".trashes", ".thumbnails", "@recycle", "@recently-snapshot"}
)
_JUNK_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


def is_junk(name: str) -> bool:
    """Return True if a file or folder of this name (one part of a path) is never a part of a dataset."""
    hidden = name.startswith(".") and name.strip(".") != ""
    return hidden or name.lower() in JUNK_FOLDERS or name.lower() in _JUNK_FILES


def in_junk(path: str) -> bool:
    """Return True if any part of a path is junk."""
    return any(map(is_junk, path.split("/")))
