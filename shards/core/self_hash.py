"""A manifest's hash of itself, so that a change of any of its words is seen, whatever the word is for."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any

KEY = "seal"


def sealed(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest with its seal as the last entry; an old seal is replaced."""
    content = {key: value for key, value in manifest.items() if key != KEY}
    return {**content, KEY: _digest(content)}


def whole(manifest: dict[str, Any]) -> bool | None:
    """Whether the content is what was sealed; None: there is no seal."""
    if KEY not in manifest:
        # A hash under another name: the seal's own name was changed.
        lost = any(isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value) for value in manifest.values())
        return False if lost else None
    return manifest[KEY] == _digest({key: value for key, value in manifest.items() if key != KEY})


def _digest(content: dict[str, Any]) -> str:
    """The SHA-256 of a JSON object, however it is laid out in its file."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
