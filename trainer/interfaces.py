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


def several_machines() -> bool:
    """Whether the job's processes are on more machines than this, by what the launcher says."""
    world = os.environ.get("WORLD_SIZE", "1")
    return world != os.environ.get("LOCAL_WORLD_SIZE", world)


def own_address() -> str:
    """This machine's address as the job's other ones reach it; loopback if there are no others."""
    if not several_machines():
        return _LOOPBACK
    towards_first = _source(os.environ.get("MASTER_ADDR", ""))
    if towards_first is not None and not _is_loopback(towards_first):
        return towards_first
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
    """This machine's IP addresses, and the interfaces that bear them."""
    families = (socket.AF_INET, socket.AF_INET6)
    by_interface = psutil.net_if_addrs().items()
    return {a.address: name for name, addresses in by_interface for a in addresses if a.family in families}


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
