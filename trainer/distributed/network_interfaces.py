"""Find the address by which the other machines of a job reach this one.

gloo uses the address that the machine's own name resolves to. On Debian that is 127.0.1.1, and a machine may have none;
each process would then wait for the others at an address of its own.
"""

from __future__ import annotations

import contextlib
import os
import socket

import psutil

_LOOPBACK = "127.0.0.1"
_SOMEWHERE = "192.0.2.1"  # unassigned (RFC 5737): reached by the default route


def several_machines() -> bool:
    """Return whether the job runs on several machines, according to the launcher's variables."""
    world, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE")
    if here is None:  # not set by this launcher
        return world != "1" and not _is_loopback(_resolved(os.environ.get("MASTER_ADDR", "localhost")))
    return world != here


def own_address() -> str:
    """Return this machine's address as other machines of the job reach it; loopback if there are none."""
    if not several_machines():
        return _LOOPBACK
    for other in (os.environ.get("MASTER_ADDR", ""), _SOMEWHERE):  # on machine 0 its name may resolve to itself
        route = _source(other)
        if route is not None and not _is_loopback(route):
            return route
    own = _resolved(socket.gethostname())
    outer = [address for address in _addresses() if not _is_loopback(address)]
    return own if own in outer else next(iter(outer), _LOOPBACK)


def choose_gloo_interface() -> None:
    """Set gloo's interface (GLOO_SOCKET_IFNAME) if this machine's name does not resolve to a usable address."""
    if not several_machines() or "GLOO_SOCKET_IFNAME" in os.environ:
        return
    here = _addresses()
    named = _resolved(socket.gethostname())
    if named in here and not _is_loopback(named):
        return
    interface = here.get(own_address())
    if interface is not None and not _is_loopback(own_address()):
        os.environ["GLOO_SOCKET_IFNAME"] = interface


def _addresses() -> dict[str, str]:
    """Return this machine's IP addresses and their interfaces, without link-local addresses."""
    families, states = (socket.AF_INET, socket.AF_INET6), psutil.net_if_stats()
    return {
        a.address: name
        for name, addresses in psutil.net_if_addrs().items()
        for a in addresses
        if a.family in families and not a.address.startswith("fe80:") and (name not in states or states[name].isup)
    }


def _source(host: str) -> str | None:
    """Return the source address of packets to a host; None if there is no route. Nothing is sent."""
    with contextlib.suppress(OSError, UnicodeError):
        family, _, _, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            return probe.getsockname()[0]
    return None


def _resolved(host: str) -> str:
    with contextlib.suppress(OSError, UnicodeError):
        return socket.gethostbyname(host)
    return ""


def _is_loopback(address: str) -> bool:
    return address.startswith("127.") or address == "::1"
