"""The last look at what is to be published: no token of the environment, no home directory."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path

from shards.core.errors import UserError

_SECRET = re.compile("TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL", re.IGNORECASE)
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED = re.compile(r"\\([^a-zA-Z0-9\s])")
_SHORTEST = 8  # letters of a secret: shorter values of such variables are switches and numbers
_TEXTS = (".md", ".json")


def check_no_secrets(folder: Path, *known: str | None) -> None:
    """Check that no text in a folder contains a known secret: the last look before it is published.

    Args:
        folder: what is to be published.
        known: secrets besides those of the environment, and the home directory.

    Raises:
        UserError: one does; the message names the file and the kind of secret, not the secret.
    """
    secrets = [*_of_the_environment(), *(("a token", secret) for secret in known if secret)]
    for path in sorted(p for p in folder.rglob("*") if p.suffix in _TEXTS):
        readings = _readings(path.read_text("utf-8"))
        for kind, secret in secrets:
            if any(secret in text for text in readings):
                raise UserError(
                    "secret-in-export",
                    f"{path.name} would contain {kind}; remove it from the dataset's notes, words or options "
                    "(nothing was sent)",
                )


def _readings(text: str) -> tuple[str, ...]:
    """Return a text as it is, and without the escapes of JSON, HTML and Markdown, behind which a secret could stand."""
    halves = _UNICODE.sub(lambda found: chr(int(found[1], 16)), text)
    letters = halves.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text, letters, _ESCAPED.sub(r"\1", html.unescape(letters))


def _of_the_environment() -> Iterator[tuple[str, str]]:
    for name, value in os.environ.items():
        if _SECRET.search(name) and len(value) >= _SHORTEST:
            yield f"the value of ${name}", value
    home = str(Path.home())
    if len(home) > len("/root"):
        yield "the path of your home directory", home
