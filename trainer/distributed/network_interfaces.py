"""By which of its addresses the other machines of a job reach this one.

gloo takes the address that the machine's own name leads to. Debian writes 127.0.1.1 there, and a machine without an
entry of its own has none: each process then waits for the others at an address that leads back to itself.
"""

from __future__ import annotations

import contextlib
import os
import socket

import psutil

_LOOPBACK = "127.0.0.1"
_SOMEWHERE = "192.0.2.1"  # an address of nobody (RFC 5737): what leads there is the default route


def several_machines() -> bool:
    """Whether the job's processes are on more machines than this, by what the launcher says."""
    world, here = os.environ.get("WORLD_SIZE", "1"), os.environ.get("LOCAL_WORLD_SIZE")
    if here is None:  # a launcher that does not say
        return world != "1" and not _is_loopback(_resolved(os.environ.get("MASTER_ADDR", "localhost")))
    return world != here


def own_address() -> str:
    """This machine's address as the job's other ones reach it; loopback if there are no others."""
    if not several_machines():
        return _LOOPBACK
    for other in (os.environ.get("MASTER_ADDR", ""), _SOMEWHERE):  # on machine 0 its own name may lead to itself
        towards = _source(other)
        if towards is not None and not _is_loopback(towards):
            return towards
    own = _resolved(socket.gethostname())
    outer = [address for address in _addresses() if not _is_loopback(address)]
    return own if own in outer else next(iter(outer), _LOOPBACK)


def lead_gloo() -> None:
    """Name gloo an interface (GLOO_SOCKET_IFNAME), where this machine's own name would lead it astray."""
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
    """This machine's IP addresses, and the interfaces that bear them; none that lead nowhere without a name beside."""
    families, states = (socket.AF_INET, socket.AF_INET6), psutil.net_if_stats()
    return {
        a.address: name
        for name, addresses in psutil.net_if_addrs().items()
        for a in addresses
        if a.family in families and not a.address.startswith("fe80:") and (name not in states or states[name].isup)
    }


def _source(host: str) -> str | None:
    """The address from which packets to a host leave; None if there is no way to it. Nothing is sent."""
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
