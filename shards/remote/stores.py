"""How each protocol is spoken: sizes of files and ranges of their bytes, by the URL.

http and https need nothing but the standard library; every other protocol is fsspec's (s3 with s3fs, gs with
gcsfs, …).
"""

from __future__ import annotations

import base64
import contextlib
import re
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from shards.core.errors import UserError
from shards.remote.location import Location

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # the extra that brings a protocol, where we have one

_CHUNK = 1 << 20  # bytes
_SMALLEST, _LARGEST = 1 << 16, 8 << 20  # bytes asked for at once, as the connection allows


class Lost(Exception):
    """A connection that broke, stalled or said less than it should; worth another try."""


class Refused(Exception):
    """An answer that another try would not change."""


class Store(Protocol):
    """How one protocol is spoken. Both methods raise `Lost`, `Refused`, or anything that means lost."""

    def size(self, url: str) -> int | None:
        """Bytes of a file, if the server tells."""
        ...

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        """The bytes [start, stop) of a file, piece by piece; fewer where it ends before."""
        ...


def connect(location: Location, stall: float) -> Store:
    """A client for a location's protocol; for one process (make another one after a fork).

    Args:
        stall: seconds after which a client that has timeouts of its own gives up.

    Raises:
        UserError: the protocol is unknown, or its package is missing.
    """
    if location.protocol in ("http", "https"):
        return _Web(location, stall)
    if location.protocol == "file":
        return _Disk()
    return _Backend(location, stall)


class _Disk:
    """Folders of this machine: a shared file system, or a slow one."""

    def size(self, url: str) -> int | None:
        with _explained():
            return self._path(url).stat().st_size

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        with _explained(), self._path(url).open("rb") as file:
            file.seek(start)
            while start < stop and (data := file.read(min(_CHUNK, stop - start))):
                start += len(data)
                yield data

    def _path(self, url: str) -> Path:
        return Path(unquote(urlsplit(url).path))


class _Web:
    """http and https by the standard library: one request a transfer, read as it comes."""

    def __init__(self, location: Location, stall: float) -> None:
        self._stall = stall
        user = urlsplit(location.url).netloc.rpartition("@")[0]
        self._login = base64.b64encode(unquote(user if ":" in user else user + ":").encode()).decode() if user else None

    def size(self, url: str) -> int | None:
        with self._ask(url, "HEAD") as answer:
            length = answer.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            answer = self._ask(url, "GET", Range=f"bytes={start}-{stop - 1}")
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the file ends before start
                return
            raise
        with answer:
            skip = self._before(answer, start)
            while data := answer.read1(_CHUNK):  # what has come, without waiting for more
                yield data[skip:]  # an empty piece tells that the connection lives
                skip = max(0, skip - len(data))

    def _before(self, answer: Any, start: int) -> int:
        """How many bytes of an answer lie before ``start``; servers may send the whole file instead of a part."""
        if answer.status != 206:
            return start
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise Lost("the server sent another part of the file than was asked for")
        return 0

    def _ask(self, url: str, method: str, **headers: str) -> Any:
        parts = urlsplit(url)
        bare = urlunsplit(
            parts._replace(netloc=parts.netloc.rpartition("@")[2], path=quote(parts.path, safe="/%+~,=:"))
        )
        request = urllib.request.Request(bare, method=method, headers={"Accept-Encoding": "identity", **headers})
        if self._login:
            request.add_unredirected_header("Authorization", f"Basic {self._login}")
        try:
            return urllib.request.urlopen(request, timeout=self._stall)
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):
                raise Refused(
                    f"access is refused ({error.code}); check user and password, or the link's date"
                ) from None
            if error.code in (404, 410):
                raise Refused(f"there is no such file ({error.code}); check the URL") from None
            if error.code < 500 and error.code not in (408, 416, 425, 429):
                raise Refused(f"the server refuses ({error.code} {error.reason})") from None
            raise
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                raise Refused(f"the server's certificate is not trusted ({error.reason.verify_message})") from None
            raise


class _Backend:
    """Any protocol of fsspec: a request a piece, so that nothing is held open and a lost piece is small."""

    def __init__(self, location: Location, stall: float) -> None:
        import fsspec

        protocol = location.protocol
        options: dict[str, Any] = {"skip_instance_cache": True}  # clients do not survive a fork
        if protocol in EXTRAS:
            options["use_listings_cache"] = False  # what was not there may have come
        if protocol in ("s3", "s3a"):  # we do the retrying, and show how it ends
            options["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": stall, "read_timeout": stall}
        try:
            self._files, _ = fsspec.core.url_to_fs(location.url, **options)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            how = f'pip install "cgan-trainer[{extra}]"' if extra else location.scrub(str(error))
            raise UserError(f"{location}: reading {protocol}:// needs another package: {how}") from None
        except Exception as error:  # every backend has errors of its own
            raise UserError(f"{location}: cannot be opened ({location.scrub(str(error))}); check the URL") from None
        if protocol in ("s3", "s3a"):
            self._files.retries = 1

    def size(self, url: str) -> int | None:
        with _explained():
            return self._files.info(self._files._strip_protocol(url)).get("size")

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        path, length = self._files._strip_protocol(url), _CHUNK
        while start < stop:
            begun = time.monotonic()
            with _explained():
                data = self._files.cat_file(path, start=start, end=min(stop, start + length))
            if not data:
                return
            yield data
            start += len(data)
            took = time.monotonic() - begun
            length = min(_LARGEST, 2 * length) if took < 1 else max(_SMALLEST, length // 2) if took > 5 else length


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Every backend has errors of its own: those that stay, and the rest."""
    try:
        yield
    except FileNotFoundError:
        raise Refused("there is no such file or bucket; check the URL") from None
    except PermissionError:
        raise Refused("access is refused; check the credentials and their rights") from None
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
            raise Refused("no credentials were found; set them as the protocol's own tools want them") from None
        raise Lost(str(error) or type(error).__name__) from None
