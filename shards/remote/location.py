"""The location of a dataset, a directory or a URL, and its name in messages, without secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from shards.core.errors import UserError

# Protocols of fsspec that wrap another one, run something, or exist in this process's memory only. Chains ("::") are
# refused altogether.
REFUSED_PROTOCOLS = """async_wrapper asynclocal asyncwrapper blockcache cached dask data dir filecache generic
libarchive memory pipe pyscript reference simplecache tar wandb zip""".split()

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Location:
    """A URL of a directory. Printed without user, password and query, which may be secrets."""

    url: str = field(repr=False)

    @classmethod
    def of_folder(cls, folder: Path) -> Location:
        """Return the location of a directory on this machine, on a slow or shared disk."""
        return cls(Path(os.path.abspath(folder)).as_uri())  # noqa: PTH100 - a symlink keeps its name

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        if self.protocol == "file":
            return unquote(parts.path)
        host = parts.netloc.rpartition("@")
        return urlunsplit((parts.scheme, ("***@" if host[1] else "") + host[2], parts.path, "", ""))

    @property
    def protocol(self) -> str:
        """The protocol in lower case: "s3", "https", …"""
        return self.url.partition("://")[0].lower()

    @property
    def identity(self) -> str:
        """The URL without user and password, which identifies the location."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def file(self, name: str) -> str:
        """Return the URL of a file or directory in it; a query stays after the path."""
        parts = urlsplit(self.url)
        name = quote(name) if self.protocol in ("http", "https", "file") else name
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    def scrub(self, text: str) -> str:
        """Return a library's message as one short line, without the secrets that `__str__` omits."""
        parts = urlsplit(self.url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        for secret in (parts.netloc.rpartition("@")[0], password, user, parts.query):
            for form in {secret, unquote(secret)} - {""}:
                text = text.replace(form, "***")
        return " ".join(text.split())[:200]


def parse_location(where: Path | str) -> Path | Location:
    """Return the directory or URL that a user gives as the location of a dataset.

    Raises:
        UserError: URLs of this kind are not supported.
    """
    text = str(where)
    if text.lower().startswith("pipe:"):
        raise UserError(
            "unsupported-url", "a pipe: URL would run a shell command; give a directory or a URL like s3://…"
        )
    found = _PROTOCOL.match(text)
    if isinstance(where, Path) or not (found or re.match(r"\w+::", text)):
        return Path(where)
    if not found or ("::" in text.partition("?")[0] and "[" not in text):
        raise UserError("unsupported-url", "chained URLs (::) are not supported; give the location itself")
    location, kind = Location(text), found[1].lower()
    try:
        parts = urlsplit(text)
        _ = parts.port, text.encode()
        if kind in ("http", "https"):
            (parts.hostname or "").encode("idna")
    except ValueError:
        raise UserError("invalid-url", f"{kind}://…: not a valid URL; check its host, port and characters") from None
    if kind in REFUSED_PROTOCOLS or (kind in ("http", "https") and not parts.hostname) or not text.isprintable():
        raise UserError(
            "unsupported-url", f"{kind}://…: datasets cannot be read from there; give a directory or a URL like s3://…"
        )
    if location.protocol in ("file", "local"):
        if parts.netloc not in ("", "localhost"):
            raise UserError("invalid-url", f"{location}: a file:// URL must have three slashes and an absolute path")
        return Path(unquote(parts.path))
    return Location(urlunsplit(parts._replace(fragment=""))) if location.protocol.startswith("http") else location
