"""Two machines and the network cable between them: training over it, and the errors when it is cut."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from support.launching import MAIN, ROOT, TINY, assert_same_run, checkpoints, make_dataset, train
from support.namespaces import Network, network

__all__ = ["network"]  # a fixture
pytestmark = pytest.mark.long

FILES = ROOT / "launch" / "accelerate"
TIMEOUT = 8  # seconds; less than a checkpoint takes on a busy machine would be too short
IMAGES = 2560
SERVE = """
import functools, http.server
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words): pass
handler = functools.partial(Handler, directory={folder!r})
http.server.ThreadingHTTPServer(("", 8000), handler).serve_forever()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("network")).path


@pytest.fixture(scope="module")
def unbroken(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two processes on one machine that was never interrupted."""
    run = tmp_path_factory.mktemp("unbroken") / "run"
    train(*words(data, run), processes=2)
    return run


def words(data: object, run: Path, images: int = IMAGES) -> list[object]:
    options = ("--total-images", images, "--checkpoint-every", 64, "--timeout", TIMEOUT, "--workers", 1)
    return [*TINY, "--log-every", 64, "--shards", data, "--run", run, "--mixed-precision", "no", *options]


class Training:
    """`accelerate launch` of one training.

    Args:
        line: the trainer's options.
        run: where it writes.
        launches: a machine's number and its launcher's own options, for each machine that takes part.
    """

    def __init__(
        self, network: Network, line: list[object], run: Path, launches: list[tuple[int, list[object]]], **extra: str
    ) -> None:
        self.network, self.run = network, run
        start = [sys.executable, "-m", "accelerate.commands.launch", "--config_file"]
        extra = {"PYTHONFAULTHANDLER": "1", **extra}
        self.launchers = {node: network.start(node, [*start, *own, MAIN, *line], **extra) for node, own in launches}

    def after(self, saved: int) -> Training:
        """Wait until the run has ``saved`` more checkpoints."""
        before = set(self._checkpoints())
        end = time.monotonic() + 120
        while len(set(self._checkpoints()) - before) < saved:
            assert time.monotonic() < end and not self._over(), self.ends(10)
            time.sleep(0.01)
        return self

    def _over(self) -> bool:
        return any(launcher.poll() is not None for launcher in self.launchers.values())

    def _checkpoints(self) -> list[str]:
        return checkpoints(self.run) if (self.run / "checkpoints").is_dir() else []

    def ranks(self, node: int) -> list[psutil.Process]:
        """Return the trainer processes of a machine."""
        return psutil.Process(self.launchers[node].pid).children()

    def ends(self, seconds: float = 120) -> tuple[list[int], str]:
        """Return the launchers' exit statuses and the output of all processes, with stacks if one does not end."""
        try:
            ended = [launcher.communicate(timeout=seconds) for launcher in self.launchers.values()]
        except subprocess.TimeoutExpired:
            for process in [left for node in self.network.nodes for left in self._left(node)]:
                with contextlib.suppress(psutil.Error):
                    process.send_signal(signal.SIGABRT)  # on which Python's fault handler prints the stacks
            ended = [launcher.communicate(timeout=30) for launcher in self.launchers.values()]
        statuses = [launcher.returncode for launcher in self.launchers.values()]
        return statuses, "".join(part for pair in ended for part in pair)

    def all_gone(self, seconds: float) -> bool:
        """Return whether all ranks, data workers and watchdogs end within ``seconds``."""
        end = time.monotonic() + seconds
        while any(self._left(node) for node in self.network.nodes):
            if time.monotonic() > end:
                return False
            time.sleep(0.1)
        return True

    def _left(self, node: int) -> list[psutil.Process]:
        launchers = {launcher.pid for launcher in self.launchers.values()}
        left = []
        for process in self.network.processes(node):
            with contextlib.suppress(psutil.Error):
                alive = process.status() != psutil.STATUS_ZOMBIE
                if alive and process.pid not in launchers and str(self.run) in " ".join(process.cmdline()):
                    left.append(process)
        return left


def train_on_both(network: Network, line: list[object], run: Path) -> Training:
    """Start a training with one process on each machine."""
    address = ["--main_process_ip", network.address(1), "--machine_rank"]
    file = FILES / "machines_cpu.yaml"
    return Training(network, line, run, [(node, [file, *address, node - 1]) for node in network.nodes])


def error_lines(output: str) -> list[str]:
    return re.findall(r"(?m)^error: (.*)$", output)


@pytest.fixture(autouse=True)
def healed(network: Network) -> Iterator[None]:
    yield
    for node in network.nodes:
        network.heal(node)
        for process in network.processes(node):
            process.kill()


def test_two_machines_train_like_two_processes_on_one(
    network: Network, data: Path, unbroken: Path, tmp_path: Path
) -> None:
    training = train_on_both(network, words(data, tmp_path / "run"), tmp_path / "run")
    statuses, output = training.ends()
    assert statuses == [0, 0], output
    assert output.count("on cpu, 2 processes") == 1
    assert_same_run(tmp_path / "run", unbroken)


def test_trap_a_host_name_that_resolves_to_loopback_is_not_used(network: Network, data: Path, tmp_path: Path) -> None:
    """On Debian a machine's own name resolves to 127.0.1.1, which gloo would send to the others as its address."""
    for node in network.nodes:
        network.name(node, "127.0.1.1")
    try:
        training = train_on_both(network, words(data, tmp_path / "run", images=32), tmp_path / "run")
        statuses, output = training.ends()
    finally:
        for node in network.nodes:
            network.name(node, network.address(node))
    assert statuses == [0, 0], output


def cable(network: Network, training: Training) -> None:
    network.cut(2)


def frozen(network: Network, training: Training) -> None:
    training.ranks(2)[0].suspend()


def killed(network: Network, training: Training) -> None:
    training.ranks(2)[0].kill()


def checkpoint_to_resume(error: str) -> int:
    """Return the checkpoint that an error message names; a later one may have been in progress."""
    found = re.search(r"resume from the newest checkpoint, of ([0-9,]+) images or later", error)
    assert found is not None, error
    return int(found[1].replace(",", ""))


@pytest.mark.parametrize(
    ("break_it", "within", "named"),
    [
        (cable, TIMEOUT + 10, ["process 1 on node2 cannot be reached", "process 0 on node1 cannot be reached"]),
        pytest.param(
            *(frozen, TIMEOUT + 10, ["process 1 on node2 is there but does not move"]), marks=pytest.mark.exhaustive
        ),
        pytest.param(*(killed, 10, ["process 1 on node2 has ended"]), marks=pytest.mark.exhaustive),
    ],
    ids=["cable cut", "rank frozen", "rank killed"],
)
def test_all_processes_end_soon_and_name_the_lost_one(
    network: Network,
    data: Path,
    unbroken: Path,
    tmp_path: Path,
    break_it: Callable[[Network, Training], None],
    within: float,
    named: list[str],
) -> None:
    run = tmp_path / "run"
    training = train_on_both(network, words(data, run), run).after(saved=2)
    break_it(network, training)
    assert training.all_gone(within), network.processes(1) + network.processes(2)
    statuses, output = training.ends(30)
    assert statuses == [1, 1], output
    found = error_lines(output)
    assert len(found) == len(named), output
    for name in named:
        assert sum(name in line for line in found) == 1, output
    newest = int(checkpoints(run)[-1])
    assert all(checkpoint_to_resume(line) <= newest for line in found), found

    network.heal(2)
    statuses, output = train_on_both(network, words(data, run), run).ends()
    assert statuses == [0, 0] and f"resuming at {newest:,} of" in output, output
    assert_same_run(run, unbroken)


# ---------------------------------------------------------------- remote shards

# Timeouts of seconds instead of minutes.
SHORT_TIMEOUTS = {
    "CGAN_REMOTE_STALL": "2",
    "CGAN_REMOTE_TRIES": "50",
    "CGAN_REMOTE_DEADLINE": "8",
    "CGAN_REMOTE_DELAY": "0.2",
}
LIMIT = 8 + 2  # seconds until a fetch fails: deadline and stall


@pytest.fixture(scope="module")
def remote_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of many shards, of which the cache holds only a few, so that fetching never ends."""
    return make_dataset(tmp_path_factory.mktemp("remote"), count=256, per_shard=4).path


@pytest.fixture(scope="module")
def remote_unbroken(remote_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Runs of one and of two processes on the local directory."""
    folder = tmp_path_factory.mktemp("remote-unbroken")
    for processes in (1, 2):
        train(*from_cache(remote_data, folder / str(processes), folder / "cache"), processes=processes)
    return {processes: folder / str(processes) for processes in (1, 2)}


def from_cache(data: object, run: Path, cache: Path) -> list[object]:
    windowed = ("--order", "windowed", "--window", 2, "--cache", cache, "--cache-limit", 3e-4, "--decoded-cache", "off")
    return [*words(data, run, images=1600), *windowed, "--checkpoint-every", 64, "--keep", 30, "--timeout", 60]


@pytest.fixture
def url(network: Network, remote_data: Path) -> Iterator[str]:
    """The URL at which the second machine serves the dataset."""
    with network.start(2, [sys.executable, "-c", SERVE.format(folder=str(remote_data))]) as server:
        yield f"http://{network.address(2)}:8000"
        server.kill()


def train_remotely(network: Network, line: list[object], run: Path, processes: int) -> Training:
    """Start a training on the first machine only."""
    file = ROOT / "accelerate_config.yaml" if processes == 1 else FILES / "cpu_processes.yaml"
    return Training(network, line, run, [(1, [file])], **SHORT_TIMEOUTS)


@pytest.mark.parametrize("processes", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_short_interruption_does_not_change_the_run(
    network: Network, url: str, remote_unbroken: dict[int, Path], tmp_path: Path, processes: int
) -> None:
    run = tmp_path / "run"
    training = train_remotely(network, from_cache(url, run, tmp_path / "cache"), run, processes).after(saved=2)
    network.cut(2)
    time.sleep(5)
    before = checkpoints(run)
    network.heal(2)
    statuses, output = training.ends()
    assert statuses == [0] and not error_lines(output), output
    assert len(before) < len(checkpoints(run)), "there was nothing left to fetch"
    assert_same_run(run, remote_unbroken[processes])


@pytest.mark.parametrize("processes", [2, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_a_long_interruption_ends_the_run_with_one_error(
    network: Network, url: str, remote_unbroken: dict[int, Path], tmp_path: Path, processes: int
) -> None:
    run = tmp_path / "run"
    line = from_cache(url, run, tmp_path / "cache")
    training = train_remotely(network, line, run, processes).after(saved=2)
    network.cut(2)
    assert training.all_gone(LIMIT + 10), network.processes(1)
    statuses, output = training.ends(30)
    assert statuses == [1], output
    (error,) = error_lines(output)
    newest = int(checkpoints(run)[-1])
    assert f"{url}/" in error and ".tar" in error, error
    assert checkpoint_to_resume(error) <= newest

    network.heal(2)
    statuses, output = train_remotely(network, line, run, processes).ends()
    assert statuses == [0] and f"resuming at {newest:,} of" in output, output
    assert_same_run(run, remote_unbroken[processes])
