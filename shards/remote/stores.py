"""Clients for each protocol: sizes of files and byte ranges, by URL.

http and https need the standard library only; every other protocol is read by fsspec (s3 with s3fs, gs with gcsfs, …).
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

EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}  # protocol → the extra that installs its package

_CHUNK = 1 << 20  # bytes
_SMALLEST, _LARGEST = 1 << 16, 8 << 20  # bytes per request, adapted to the speed of the connection


class ConnectionLost(Exception):
    """A connection that broke, stalled or ended early; worth another try."""


class RequestRefused(Exception):
    """An answer that another try would not change, with the message code for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class Store(Protocol):
    """A client for one protocol. Both methods raise `RequestRefused`; any other exception means a lost connection."""

    def size(self, url: str) -> int | None:
        """Return the size of a file in bytes, None if the server does not report it."""
        ...

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the bytes [start, stop) of a file in pieces; fewer if the file ends before."""
        ...


def open_store(location: Location, stall: float) -> Store:
    """Return a client for a location's protocol; for one process (create another one after a fork).

    Args:
        stall: timeout in seconds, for clients that support one.

    Raises:
        UserError: the protocol is unknown, or its package is missing.
    """
    if location.protocol in ("http", "https"):
        return _HttpStore(location, stall)
    if location.protocol == "file":
        return _FileStore()
    return _FsspecStore(location, stall)


class _FileStore:
    """Directories of this machine, on a shared or slow file system."""

    def size(self, url: str) -> int | None:
        with _classify_errors():
            return self._path(url).stat().st_size

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        with _classify_errors(), self._path(url).open("rb") as file:
            file.seek(start)
            while start < stop and (data := file.read(min(_CHUNK, stop - start))):
                start += len(data)
                yield data

    def _path(self, url: str) -> Path:
        return Path(unquote(urlsplit(url).path))


class _HttpStore:
    """http and https with the standard library: one request per transfer, read as it arrives."""

    def __init__(self, location: Location, stall: float) -> None:
        self._stall = stall
        user = urlsplit(location.url).netloc.rpartition("@")[0]
        self._login = base64.b64encode(unquote(user if ":" in user else user + ":").encode()).decode() if user else None

    def size(self, url: str) -> int | None:
        with self._request(url, "HEAD") as answer:
            length = answer.headers.get("Content-Length", "")
        return int(length) if re.fullmatch(r"\d{1,18}", length) else None

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        try:
            answer = self._request(url, "GET", Range=f"bytes={start}-{stop - 1}")
        except urllib.error.HTTPError as error:
            if error.code == 416:  # the file ends before start
                return
            raise
        with answer:
            skip = self._surplus(answer, start)
            while data := answer.read1(_CHUNK):  # what has arrived, without waiting for more
                yield data[skip:]  # an empty piece shows that the connection is alive
                skip = max(0, skip - len(data))

    def _surplus(self, answer: Any, start: int) -> int:
        """Return how many bytes of an answer precede ``start``; servers may send the whole file instead of a range."""
        if answer.status != 206:
            return start
        if not answer.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            raise ConnectionLost("the server sent another range than the requested one")
        return 0

    def _request(self, url: str, method: str, **headers: str) -> Any:
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
                raise RequestRefused(
                    "access-denied",
                    f"access denied ({error.code}); check user, password and expiry",
                ) from None
            if error.code in (404, 410):
                raise RequestRefused("remote-file-missing", f"no such file ({error.code}); check the URL") from None
            if error.code < 500 and error.code not in (408, 416, 425, 429):
                raise RequestRefused("request-refused", f"the server refuses ({error.code} {error.reason})") from None
            raise
        except urllib.error.URLError as error:
            if isinstance(error.reason, ssl.SSLCertVerificationError):
                reason = error.reason.verify_message
                raise RequestRefused(
                    "certificate-not-trusted", f"the certificate of the server is not trusted ({reason})"
                ) from None
            raise


class _FsspecStore:
    """Any protocol of fsspec: one request per piece, so that nothing stays open and a lost piece is small."""

    def __init__(self, location: Location, stall: float) -> None:
        import fsspec

        protocol = location.protocol
        options: dict[str, Any] = {"skip_instance_cache": True}  # clients do not survive a fork
        if protocol in EXTRAS:
            options["use_listings_cache"] = False  # a file may have been uploaded meanwhile
        if protocol in ("s3", "s3a"):  # retries are ours, with messages
            options["config_kwargs"] = {"retries": {"max_attempts": 0}, "connect_timeout": stall, "read_timeout": stall}
        try:
            self._files, _ = fsspec.core.url_to_fs(location.url, **options)
        except ImportError as error:
            extra = EXTRAS.get(protocol)
            how = f'pip install "cgan-trainer[{extra}]"' if extra else location.scrub(str(error))
            raise UserError("missing-package", f"{location}: {protocol}:// needs another package: {how}") from None
        except Exception as error:  # each backend raises its own types
            reason = location.scrub(str(error))
            raise UserError("invalid-url", f"{location}: cannot be opened ({reason}); check the URL") from None
        if protocol in ("s3", "s3a"):
            self._files.retries = 1

    def size(self, url: str) -> int | None:
        with _classify_errors():
            return self._files.info(self._files._strip_protocol(url)).get("size")

    def chunks(self, url: str, start: int, stop: int) -> Iterator[bytes]:
        path, length = self._files._strip_protocol(url), _CHUNK
        while start < stop:
            begun = time.monotonic()
            with _classify_errors():
                data = self._files.cat_file(path, start=start, end=min(stop, start + length))
            if not data:
                return
            yield data
            start += len(data)
            took = time.monotonic() - begun
            length = min(_LARGEST, 2 * length) if took < 1 else max(_SMALLEST, length // 2) if took > 5 else length


@contextlib.contextmanager
def _classify_errors() -> Iterator[None]:
    """Turn the errors of a backend into `RequestRefused` if they are permanent, and `ConnectionLost` if not."""
    try:
        yield
    except FileNotFoundError:
        raise RequestRefused("remote-file-missing", "no such file or bucket; check the URL") from None
    except PermissionError:
        raise RequestRefused("access-denied", "access denied; check the credentials and their permissions") from None
    except Exception as error:
        if type(error).__name__ in ("NoCredentialsError", "PartialCredentialsError", "DefaultCredentialsError"):
            raise RequestRefused(
                "no-credentials", "no credentials were found; set them as for the tools of this protocol"
            ) from None
        raise ConnectionLost(str(error) or type(error).__name__) from None
