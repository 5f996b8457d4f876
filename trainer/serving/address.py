"""Where a server listens, and by which names it may be called."""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from typing import Any

from shards.core.errors import UserError

BACKLOG = 128  # connections that wait to be accepted


def is_loopback(host: str) -> bool:
    """Return whether only this machine reaches a host name or address.

    Raises:
        UserError: there is no such host.
    """
    return all(ipaddress.ip_address(str(address[4][0]).split("%")[0]).is_loopback for address in _resolve(host, 0))


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound, and does not listen yet.

    Raises:
        UserError: there is no such host, the port is in use, or this user may not take it.
    """
    family, kind, protocol, _, address = _resolve(host, port)[0]
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        bound.close()
        raise _refused(host, port, error) from None
    return bound


def listen(bound: socket.socket, host: str) -> None:
    """Accept connections at a bound socket.

    Raises:
        UserError: another process has taken the port in the meantime.
    """
    try:
        bound.listen(BACKLOG)
    except OSError as error:
        raise _refused(host, bound.getsockname()[1], error) from None


def url_of(bound: socket.socket) -> str:
    """Return the address of a bound socket, for a browser."""
    host, port = bound.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _resolve(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        if not host:
            raise ValueError("it is empty")
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, ValueError) as error:  # a UnicodeError is a ValueError
        reason = error.strerror if isinstance(error, OSError) else "it is not a name"
        raise UserError("invalid-value", f"--host {host}: there is no such host ({reason})") from None


def _refused(host: str, port: int, error: OSError) -> UserError:
    if error.errno == errno.EADDRINUSE:
        return UserError("port-in-use", f"port {port} of {host} is in use; give another --port, or 0 for a free one")
    return UserError("port-refused", f"port {port} of {host} cannot be used: {error.strerror}; give another --port")


def require_name(name: str) -> None:
    """Check that a Host header can have a name.

    Raises:
        UserError: it has a scheme, a port or a path, or is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name) and not _is_address(name):
        raise UserError(
            "invalid-value", f"--allow-host {name}: give a name alone, such as gpu-box, without http:// and port"
        )


class HostNames:
    """The names by which a server may be called, against DNS rebinding.

    A page of another site can point its own name at this server's address, and then read answers as its own. Browsers
    send that name in the Host header, so a name is refused unless it is listed; an address cannot be pointed elsewhere.

    Args:
        names: host names besides "localhost".
    """

    def __init__(self, names: tuple[str, ...]) -> None:
        self._names = {"localhost", *(name.lower().rstrip(".") for name in names)}

    def allows(self, header: str) -> bool:
        """Return whether a Host header ("localhost:8000", "[::1]") names this server."""
        found = re.fullmatch(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+))(?::\d{1,5})?", header)
        if not found:
            return False
        name = (found[1] or found[2]).lower().rstrip(".")
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
