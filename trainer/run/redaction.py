"""Redact what a run recorded for others to see: no paths of people, no keys in URLs, no images of the dataset."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://(?:(?!\]\()[^\s<>\"'])+")  # up to the "](" of a link in Markdown
_PATH = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\\"']+[/\\])+([^\s/\\\"']*)")


def public_evaluation(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return an evaluation without the names of its panels: they show real images, and stay in the run."""
    return public({key: value for key, value in entry.items() if key != "pictures"})


def public(value: Any) -> Any:
    """Return plain values with `without_secrets` applied to all texts in them, also to keys."""
    if isinstance(value, str):
        return without_secrets(value)
    if isinstance(value, list | tuple):
        return [public(entry) for entry in value]
    if isinstance(value, dict):
        return {public(key): public(entry) for key, entry in value.items()}
    return value


def without_secrets(text: str) -> str:
    """Return a note with URLs without user, password and query, and absolute paths shortened to their last name."""
    urls: list[str] = []

    def keep(found: re.Match[str]) -> str:
        urls.append(_public_url(found[0]))
        return f"\0{len(urls) - 1}\0"

    text = _PATH.sub(r"…/\1", _URL.sub(keep, _without_home(text.replace("\0", ""))))
    return re.sub("\0(\\d+)\0", lambda found: urls[int(found[1])], text)


def _without_home(text: str) -> str:
    """Return a text with "~" for the home directory, whose name may have a space: no pattern finds its end."""
    home = str(Path.home()).rstrip("/")
    return re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text) if home else text


def _public_url(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:  # a bracket in the host
        return "…"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
