"""Who should_report for a job that ends, how its machines reach each other, and what becomes of a frozen process."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainer.distributed import failure_notices, network_interfaces
from trainer.distributed.failure_notices import (
    ENDED,
    FAILED,
    HERE,
    LOST,
    SILENT,
    UNREACHABLE,
    Endpoint,
    Peers,
    should_report,
)


def job(world: int) -> list[Peers]:
    """As many processes' ends of the line, in this one."""
    endpoints: list[Endpoint] = []
    everyone = threading.Barrier(world)
    order = {rank: threading.Event() for rank in range(world + 1)}
    order[0].set()

    def join(rank: int) -> Peers:
        def gather(mine: Endpoint) -> list[Endpoint]:
            order[rank].wait()
            endpoints.append(mine)
            order[rank + 1].set()
            everyone.wait()
            return endpoints

        return Peers(rank, gather)

    with ThreadPoolExecutor(world) as pool:
        return list(pool.map(join, range(world)))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failure_notices, "_ANSWER", 0.5)


def test_first_rank_to_notice_a_lost_rank_reports_it() -> None:
    zero, one, two, three = job(4)
    one.close()
    assert three.leave(LOST) == (True, {1: ENDED}), "0 and 2 are there, and may not come to notice for long"
    three.close()
    assert two.leave(LOST) == (False, {1: ENDED}), "3 has said that it leaves, and is not lost"
    assert zero.leave(LOST) == (False, {1: ENDED})
    host = socket.gethostname()
    assert zero.describe({1: ENDED, 2: ENDED, 3: UNREACHABLE}) == (
        f"processes 1, 2 on {host} have ended (out of memory, perhaps; the log there says more); "
        f"process 3 on {host} cannot be reached (a cable, a switch, a firewall, or the machine is down)"
    )
    assert f"kill -9 {os.getpid()}" in zero.describe({2: SILENT})


def test_only_the_failed_rank_reports() -> None:
    zero, one, two = job(3)
    assert two.leave(FAILED) == (True, {})
    two.close()
    assert one.leave(LOST) == (False, {})
    assert zero.leave(FAILED) == (False, {}), "it was told before"


def test_a_question_is_not_taken_for_a_farewell() -> None:
    zero, one = job(2)
    assert zero.ask_next() == HERE and not one.departed
    one.leave(LOST)
    assert zero.departed and zero.ask_next() == LOST
    one.close()
    assert zero.ask_next() == ENDED


def test_a_process_that_does_not_answer_is_there() -> None:
    zero, one = job(2)
    one._lock.acquire()
    assert zero.leave(LOST) == (True, {1: SILENT})


def test_strangers_are_not_heard() -> None:
    zero, one = job(2)
    for words in (b"x 1 failed\n", b"\xff\n", b"\n", b"a b c d\n", b"\xff 1 lost\n", b"x" * 1000):
        line = socket.create_connection(("127.0.0.1", zero.endpoints[0].port), timeout=5)
        with line, contextlib.suppress(OSError):  # hung up on before all of it was read
            line.sendall(words)
            line.shutdown(socket.SHUT_WR)
            assert line.recv(100) == b""
    assert zero.leave(FAILED) == (True, {})
    assert one.leave(LOST)[0] is False


def test_whoever_keeps_a_line_open_does_not_keep_others_from_being_heard() -> None:
    zero, one = job(2)
    with contextlib.ExitStack() as lines:
        for _ in range(5):
            lines.enter_context(socket.create_connection(("127.0.0.1", zero.endpoints[0].port), timeout=5))
        assert one.leave(LOST) == (True, {}), "0 answers that it is there"


@given(st.integers(2, 6), st.data())
def test_one_of_the_ranks_that_exit_together_reports(world: int, data: st.DataObject) -> None:
    """All of them hear of each other; some have failed by themselves."""
    states = [data.draw(st.sampled_from([LOST, FAILED])) for _ in range(world)]
    said = []
    for rank, state in enumerate(states):
        others = {r: s for r, s in enumerate(states) if r != rank}
        if should_report(rank, state, {}, others, others):
            said.append(rank)
    assert said == [states.index(FAILED) if FAILED in states else 0]


def test_a_rank_that_ended_before_it_could_answer_has_reported() -> None:
    """It told this one at the moment at which both failed."""
    assert should_report(0, FAILED, {}, {1: FAILED}, {1: FAILED})
    assert not should_report(1, FAILED, {}, {0: FAILED}, {0: ENDED})


@given(st.permutations(range(4)), st.lists(st.sampled_from([LOST, FAILED]), min_size=4, max_size=4))
def test_one_of_the_ranks_that_exit_in_sequence_reports(order: list[int], states: list[str]) -> None:
    """But for those that were lost before another failed: they could not know."""
    said = []
    for place, rank in enumerate(order):
        before = {r: states[r] for r in order[:place]}
        answers = dict.fromkeys(order[place + 1 :], HERE)
        if should_report(rank, states[rank], before, before, answers):
            said.append(rank)
    failed = [rank for rank in order if states[rank] == FAILED]
    assert [rank for rank in said if states[rank] == FAILED] == failed[:1]
    if not failed:
        assert said == [order[0]]


# ---------------------------------------------------------------- addresses


@pytest.fixture
def two_machines(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    here = {"127.0.0.1": "lo", "10.0.0.7": "eth1", "192.168.3.4": "eth0"}
    monkeypatch.setattr(network_interfaces, "_addresses", lambda: here)
    return monkeypatch


@pytest.mark.parametrize(
    ("named", "towards", "address", "interface"),
    [
        ("10.0.0.7", "10.0.0.7", "10.0.0.7", None),  # gloo finds it by itself
        ("127.0.1.1", "192.168.3.4", "192.168.3.4", "eth0"),
        ("203.0.113.9", "10.0.0.7", "10.0.0.7", "eth1"),  # a name that was another machine's
        ("", "192.168.3.4", "192.168.3.4", "eth0"),
        ("127.0.1.1", "127.0.0.1", "10.0.0.7", "eth1"),  # the first machine, which reaches itself by loopback
    ],
)
def test_the_way_to_the_other_machines(
    two_machines: pytest.MonkeyPatch, named: str, towards: str, address: str, interface: str | None
) -> None:
    two_machines.setattr(network_interfaces, "_resolved", lambda host: named)
    two_machines.setattr(network_interfaces, "_source", lambda host: towards)
    two_machines.setattr(os, "environ", dict(os.environ))
    assert network_interfaces.own_address() == address
    network_interfaces.choose_gloo_interface()
    assert os.environ.get("GLOO_SOCKET_IFNAME") == interface


def test_a_machine_alone_needs_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"})
    network_interfaces.choose_gloo_interface()
    assert network_interfaces.own_address() == "127.0.0.1" and "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.mark.parametrize(("first", "several"), [("10.0.0.1", True), ("127.0.0.1", False)])
def test_a_launcher_that_does_not_say_how_many_are_here(
    monkeypatch: pytest.MonkeyPatch, first: str, several: bool
) -> None:
    monkeypatch.setattr(os, "environ", {"WORLD_SIZE": "2", "MASTER_ADDR": first})
    assert network_interfaces.several_machines() is several


def test_this_machines_addresses_are_its_own() -> None:
    assert network_interfaces._addresses()["127.0.0.1"].startswith("lo")
    assert network_interfaces._source("127.0.0.1") == "127.0.0.1"
    assert network_interfaces._source("no-such-machine.invalid") is None


# ---------------------------------------------------------------- frozen

WATCHED = """
import time
from trainer.process import stall_watchdog
stall_watchdog._DELAY = 0
stall_watchdog._INTERVAL = 0.1
stall_watchdog.watch(1.0)
print("watched", flush=True)
time.sleep(60)
"""


@pytest.fixture
def watched() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", WATCHED], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "watched\n"
    return process


def test_trap_a_process_that_stays_frozen_is_ended(watched: subprocess.Popen[str]) -> None:
    (watcher,) = psutil.Process(watched.pid).children()
    watched.send_signal(signal.SIGSTOP)
    assert watched.wait(timeout=20) == -signal.SIGKILL
    watcher.wait(timeout=20)


def test_one_that_goes_on_is_not_and_its_watcher_ends_with_it(watched: subprocess.Popen[str]) -> None:
    (watcher,) = psutil.Process(watched.pid).children()
    for _ in range(3):
        watched.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        watched.send_signal(signal.SIGCONT)
        time.sleep(0.3)
    assert watched.poll() is None
    watched.terminate()
    assert watched.communicate(timeout=5)[0] == "", "the pipe ends with the process"
    watcher.wait(timeout=20)
