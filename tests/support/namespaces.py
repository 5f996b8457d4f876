"""Two machines for the tests: network namespaces on one switch, whose cables can be pulled.

Each node has an eth0 of its own with an address 10.93.0.N and a name, nodeN, that only the nodes know; nothing else but
loopback, and no way to any real network. The switch is a namespace too: this machine's own interfaces stay as they are.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

import psutil
import pytest

from support.launching import environment

# A runner that must not skip these tests sets it (.ci/run).
NEEDED = "CGAN_TESTS_NEED_NAMESPACES"
_TOOLS = ("ip", "nsenter", "unshare", "setpriv")
_SEARCHED = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
# Own name, own /etc/hosts (which does not know this machine's name), and the end of it all with the test.
_ENTER = 'hostname "$1" && mount --bind "$2" /etc/hosts && shift 2 && exec setpriv --pdeathsig KILL "$@"'


@functools.cache
def missing() -> str:
    """Why there can be no namespaces here; empty if there can be."""
    if sys.platform != "linux":
        return "network namespaces are Linux's"
    lacking = [tool for tool in _TOOLS if not shutil.which(tool, path=_SEARCHED)]
    if lacking:
        return f"{', '.join(lacking)} not installed (apt-get install iproute2 util-linux)"
    if os.geteuid() != 0:
        return "only root makes network namespaces"
    try:
        with Network(nodes=1) as network:
            network.run(1, ["true"])
    except subprocess.CalledProcessError as error:
        return f"this machine makes no network namespaces: {error.stderr.strip() or error}"
    return ""


class Network:
    """``nodes`` machines, up while the context is open; what still runs on them then is killed.

    Attributes:
        nodes: their numbers, from 1 on.
    """

    def __init__(self, nodes: int = 2) -> None:
        self.nodes = range(1, nodes + 1)
        self._prefix = f"cgan{os.getpid()}"

    def __enter__(self) -> Network:
        try:
            self._ip("netns", "add", self._space("switch"))
            self._in_switch("link", "add", "hub", "type", "bridge")
            self._in_switch("link", "set", "hub", "up")
            for node in self.nodes:
                self._attach(node)
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _attach(self, node: int) -> None:
        space = self._space(node)
        self._ip("netns", "add", space)
        self._in_switch("link", "add", f"port{node}", "type", "veth", "peer", "name", "eth0", "netns", space)
        self._in_switch("link", "set", f"port{node}", "master", "hub", "up")
        self._ip("-n", space, "link", "set", "lo", "up")
        self._ip("-n", space, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        self._ip("-n", space, "link", "set", "eth0", "up")
        self._hosts(node).parent.mkdir(parents=True, exist_ok=True)
        self.name(node, self.address(node))

    def _remove(self) -> None:
        for name in (*self.nodes, "switch"):
            space = self._space(name)
            for process in self.processes(name):
                with contextlib.suppress(psutil.Error):
                    process.kill()
            with contextlib.suppress(subprocess.CalledProcessError):
                self._ip("netns", "del", space)
            shutil.rmtree(self._hosts(name).parent, ignore_errors=True)

    def address(self, node: int) -> str:
        """A node's address."""
        return f"10.93.0.{node}"

    def name(self, node: int, own: str) -> None:
        """Write a node's /etc/hosts: the others by their addresses, itself as ``own``."""
        places = {other: self.address(other) for other in self.nodes} | {node: own}
        lines = ["127.0.0.1 localhost", *(f"{address} node{other}" for other, address in places.items()), ""]
        self._hosts(node).write_text("\n".join(lines))

    def cut(self, node: int) -> None:
        """Pull a node's cable: no packet comes through any more, and nobody is told."""
        self._in_switch("link", "set", f"port{node}", "down")

    def heal(self, node: int) -> None:
        """Plug it in again."""
        self._in_switch("link", "set", f"port{node}", "up")

    def start(self, node: int, words: Sequence[object], **extra: str) -> subprocess.Popen[str]:
        """Start a command on a node, its output in pipes; it ends with the test."""
        inside = ["bash", "-c", _ENTER, "_", f"node{node}", self._hosts(node), *words]
        line = ["nsenter", f"--net=/run/netns/{self._space(node)}", "unshare", "--uts", "--mount", *inside]
        return subprocess.Popen(
            list(map(str, line)),
            env=environment(0, {"PATH": _SEARCHED, **extra}),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, node: int, words: Sequence[object], **extra: str) -> str:
        """What a command on a node prints; it must succeed."""
        process = self.start(node, words, **extra)
        output, errors = process.communicate(timeout=300)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, shlex.join(map(str, words)), output, errors)
        return output

    def processes(self, node: int | str) -> list[psutil.Process]:
        """All that runs on a node."""
        with contextlib.suppress(subprocess.CalledProcessError):
            numbers = self._ip("netns", "pids", self._space(node)).split()
            return list(_alive(map(int, numbers)))
        return []

    def _space(self, name: int | str) -> str:
        return f"{self._prefix}-{name}"

    def _hosts(self, node: int | str) -> Path:
        return Path("/run/cgan-tests", self._space(node), "hosts")

    def _in_switch(self, *words: str) -> None:
        self._ip("-n", self._space("switch"), *words)

    def _ip(self, *words: str) -> str:
        done = subprocess.run(
            ["ip", *words], env={**os.environ, "PATH": _SEARCHED}, capture_output=True, text=True, check=True
        )
        return done.stdout


def _alive(numbers: Iterator[int]) -> Iterator[psutil.Process]:
    for number in numbers:
        with contextlib.suppress(psutil.Error):
            yield psutil.Process(number)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Two nodes; skipped where there can be none, unless the environment says that there must."""
    reason = missing()
    if reason and not os.environ.get(NEEDED):
        pytest.skip(reason)
    assert not reason, f"{reason}, and {NEEDED} is set"
    with Network() as both:
        yield both
