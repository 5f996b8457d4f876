"""Put the page together: one document that contains all it needs, and may fetch nothing."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

from trainer.playground import asset_files
from trainer.reporting.html_page import escape


def page(title: str, facts: str, data: dict[str, Any], weights: bytes) -> str:
    """Return the HTML document.

    Args:
        title: of the page; escaped here, as the facts are.
        facts: one line about the run.
        data: plain JSON values (see `page_data`).
        weights: of the generator.
    """
    script, style = asset_files.script(), asset_files.read("style.css")
    parts = {
        "policy": policy(),
        "title": escape(title),
        "facts": escape(facts),
        "width": str(int(data["width"])),
        "height": str(int(data["height"])),
        "style": style,
        "data": _json(data),
        "weights": base64.b64encode(weights).decode(),
        "script": script,
    }
    return re.sub(r"{{(\w+)}}", lambda name: parts[name[1]], asset_files.read("page.html"))


def _json(data: dict[str, Any]) -> str:
    """Return JSON that an HTML parser cannot mistake for the end of its script element, or for a comment."""
    return json.dumps(data, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def policy() -> str:
    """Return the page's content security policy: this script and this style, and no request to anywhere."""
    script, style = asset_files.script(), asset_files.read("style.css")
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (script, style)]
    return (
        f"default-src 'none'; script-src 'sha256-{hashes[0]}'; style-src 'sha256-{hashes[1]}'; img-src blob: data:; "
        "base-uri 'none'; form-action 'none'"
    )
