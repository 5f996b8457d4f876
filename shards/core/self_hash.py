"""The hash of a manifest in the manifest itself, which reveals a change of any of its fields."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

KEY = "seal"


def with_hash(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest with its hash as the last entry; an old hash is replaced."""
    content = {key: value for key, value in manifest.items() if key != KEY}
    return {**content, KEY: _digest(content)}


def is_intact(manifest: dict[str, Any]) -> bool | None:
    """Return whether the content matches the hash; None if there is no hash."""
    if KEY not in manifest:
        # A hash under another key: the key of the hash itself was changed.
        lost = any(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in manifest.values())
        return False if lost else None
    return manifest[KEY] == _digest({key: value for key, value in manifest.items() if key != KEY})


def _digest(content: dict[str, Any]) -> str:
    """Return the SHA-256 of a JSON object, independent of its layout in a file."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
