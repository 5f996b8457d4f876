"""Keep what is private out of what is published: paths of people, keys in URLs, tokens of the environment."""

from __future__ import annotations

import html
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from shards.core.errors import UserError

_URL = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://(?:(?!\]\()[^\s<>\"'])+")  # up to the "](" of a link in Markdown
_PATH = re.compile(r"(?<![\w:/.])(?:~|[A-Za-z]:)?[/\\](?:[^\s/\\\"']+[/\\])+([^\s/\\\"']*)")
_SECRET = re.compile("TOKEN|SECRET|PASSWORD|PASSWD|API_?KEY|ACCESS_?KEY|CREDENTIAL", re.IGNORECASE)
_UNICODE = re.compile(r"\\u([0-9a-fA-F]{4})")
_ESCAPED = re.compile(r"\\([^a-zA-Z0-9\s])")
_SHORTEST = 8  # letters of a secret: shorter values of such variables are switches and numbers
_TEXTS = (".md", ".json")


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
