"""Where a data set lies: a folder or a URL, and how messages may name it without its secrets."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from shards.core.errors import UserError

# What fsspec knows but is no place of its own: it wraps another one, runs something, or lives in this process's memory.
# Chains ("::") are refused as a whole.
REFUSED = """async_wrapper asynclocal asyncwrapper blockcache cached dask data dir filecache generic libarchive memory
pipe pyscript reference simplecache tar wandb zip""".split()

_PROTOCOL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


@dataclass(frozen=True)
class Location:
    """A folder elsewhere. Printed without user, password and query, which may be secrets."""

    url: str = field(repr=False)

    @classmethod
    def of_folder(cls, folder: Path) -> Location:
        """A folder of this machine, on a disk that is slow or shared."""
        return cls(Path(os.path.abspath(folder)).as_uri())  # noqa: PTH100 - a link keeps its own name

    def __str__(self) -> str:
        parts = urlsplit(self.url)
        if self.protocol == "file":
            return unquote(parts.path)
        host = parts.netloc.rpartition("@")
        return urlunsplit((parts.scheme, ("***@" if host[1] else "") + host[2], parts.path, "", ""))

    @property
    def protocol(self) -> str:
        """In lower case: "s3", "https", …"""
        return self.url.partition("://")[0].lower()

    @property
    def identity(self) -> str:
        """The URL without user and password: what tells two places apart."""
        parts = urlsplit(self.url)
        return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))

    def file(self, name: str) -> str:
        """The URL of a file (or folder) in it; a query stays behind the path."""
        parts = urlsplit(self.url)
        name = quote(name) if self.protocol in ("http", "https", "file") else name
        return urlunsplit(parts._replace(path=f"{parts.path.rstrip('/')}/{name}"))

    def scrub(self, text: str) -> str:
        """A library's message as one short line, without what `__str__` leaves out."""
        parts = urlsplit(self.url)
        user, _, password = parts.netloc.rpartition("@")[0].partition(":")
        for secret in (parts.netloc.rpartition("@")[0], password, user, parts.query):
            for form in {secret, unquote(secret)} - {""}:
                text = text.replace(form, "***")
        return " ".join(text.split())[:200]


def locate(where: Path | str) -> Path | Location:
    """What a person names as a data set: a folder, or a URL.

    Raises:
        UserError: a URL of a kind that is not read.
    """
    text = str(where)
    if text.lower().startswith("pipe:"):
        raise UserError("a pipe: URL would run a shell command and is not read; name a folder or a URL such as s3://…")
    found = _PROTOCOL.match(text)
    if isinstance(where, Path) or not (found or re.match(r"\w+::", text)):
        return Path(where)
    if not found or ("::" in text.partition("?")[0] and "[" not in text):
        raise UserError("a chained URL (::) is not read; name the place itself")
    location, kind = Location(text), found[1].lower()
    try:
        parts = urlsplit(text)
        _ = parts.port, text.encode()
        if kind in ("http", "https"):
            (parts.hostname or "").encode("idna")
    except ValueError:
        raise UserError(f"{kind}://…: not a URL that can be read; check its host, port and characters") from None
    if kind in REFUSED or (kind in ("http", "https") and not parts.hostname) or not text.isprintable():
        raise UserError(f"{kind}://…: not a place that data sets can be read from; name a folder or a URL like s3://…")
    if location.protocol in ("file", "local"):
        if parts.netloc not in ("", "localhost"):
            raise UserError(f"{location}: a file:// URL must have three slashes and an absolute path")
        return Path(unquote(parts.path))
    return Location(urlunsplit(parts._replace(fragment=""))) if location.protocol.startswith("http") else location
