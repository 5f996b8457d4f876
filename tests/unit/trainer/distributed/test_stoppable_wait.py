"""Ranks that wait for others in C++ end when they are asked to stop, or when their launcher is lost."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from support.errors import assert_printed
from support.launching import MAIN, TINY, command, environment, free_port, make_dataset

SOON = 60.0  # seconds; ``--timeout`` is five minutes


def ends_soon(processes: list[psutil.Process]) -> bool:
    _, alive = psutil.wait_procs(processes, timeout=SOON)
    for process in alive:
        process.kill()
    return not alive


def ranks_of(launcher: psutil.Popen) -> list[psutil.Process]:
    """Return the ranks that run; a launcher starts other processes, too."""
    ranks = []
    for child in launcher.children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            ranks += [child] if "main.py" in " ".join(child.cmdline()) else []
    return ranks


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> list[object]:
    folder = tmp_path_factory.mktemp("waits")
    return [*TINY, "--shards", make_dataset(folder).path, "--run", folder / "run", "--total-images", 640]


@pytest.mark.parametrize("delay", [0.0, 1.5])
def test_ranks_whose_launcher_is_killed_during_the_start_up_end_soon(
    words: list[object], tmp_path: Path, delay: float
) -> None:
    """At once, they are orphans before their first line of Python; later, when torch looks for the launcher's store."""
    output = tmp_path / "output"
    with output.open("wb") as file:
        launcher = psutil.Popen(command(words, 2), env=environment(2, {}), stdout=file, stderr=file)
        while len(ranks := ranks_of(launcher)) < 2:
            assert launcher.poll() is None
            time.sleep(0.01)
        time.sleep(delay)
        launcher.kill()
        launcher.wait()
    assert ends_soon(ranks)
    said = output.read_text()
    assert_printed(said, "stopped-waiting", "the launcher is gone", "the other ranks")
    assert said.count("error:") == 1, said


@pytest.mark.parametrize("asked", ["SIGTERM", "SIGINT"])
def test_a_rank_that_waits_for_a_missing_one_can_be_stopped(words: list[object], asked: str) -> None:
    place = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "LOCAL_WORLD_SIZE": "1"}
    env = environment(2, place | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())})
    line = [sys.executable, str(MAIN), *map(str, words)]
    with subprocess.Popen(line, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        port, listening = int(env["MASTER_PORT"]), False
        while not listening:  # rank 0 has opened its store
            assert process.poll() is None
            listening = any(c.laddr.port == port for c in psutil.Process(process.pid).net_connections() if c.laddr)
            time.sleep(0.05)
        os.kill(process.pid, getattr(signal, asked))
        _, errors = process.communicate(timeout=SOON)
    assert process.returncode == 1
    assert_printed(errors, "stopped-waiting", asked, "the other ranks")
