"""Commands whose standard streams are full or closed: the work is done, and the status says what was lost."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from launch.cli import COMMANDS
from support.errors import codes
from support.launching import MAIN, ROOT, TINY, checkpoints, environment

CGAN = "from launch.cli import main; main()"
SOME = ("pack", "train", "sample", "describe", "slurm")  # commands of each package
BROKEN = [">&-", "2>&-", "<&- >&- 2>&-", ">/dev/full 2>&1"]
REDIRECTIONS = [
    *("<&- >&- 2>&-", ">/dev/full"),
    *(pytest.param(streams, marks=pytest.mark.exhaustive) for streams in BROKEN if streams != "<&- >&- 2>&-"),
]


def shell(words: Sequence[object], redirection: str) -> subprocess.CompletedProcess[str]:
    """Run a command line with redirected streams; no traceback may appear on what is left of them."""
    script = 'program=$1; shift; "$program" "$@" ' + redirection
    line = ["bash", "-c", script, "bash", *map(str, words)]
    ended = subprocess.run(
        line, cwd=ROOT, env=environment(0, {}), capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in ended.stdout + ended.stderr and "Exception" not in ended.stderr, ended.stderr
    return ended


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_training_does_not_need_its_streams(redirection: str, small_dataset: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = [sys.executable, MAIN, *TINY, "--shards", small_dataset, "--run", run, "--total-images", 32]
    ended = shell(words, redirection)
    assert ended.returncode == 0
    assert checkpoints(run) == [f"{32:012d}"] and (run / "report.html").exists()
    assert codes(ended.stderr) == (["output-lost"] if redirection == ">/dev/full" else [])


@pytest.mark.parametrize("redirection", REDIRECTIONS)
def test_packing_does_not_need_its_streams(redirection: str, small_dataset: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-c", CGAN, "pack", small_dataset.parent / "source", tmp_path / "out", "--workers", 1]
    ended = shell(words, redirection)
    assert ended.returncode == (1 if "full" in redirection else 0)
    assert (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        *(pytest.param(c, marks=[] if c in SOME else pytest.mark.exhaustive) for c in COMMANDS),
        *("--version", "--help", "no-such-command"),
    ],
)
def test_help_of_every_command_has_a_clean_status(command: str) -> None:
    words = [sys.executable, "-c", CGAN, command, *(["--help"] if command in COMMANDS else [])]
    mistake = 2 if command == "no-such-command" else 0
    for redirection in BROKEN:
        assert shell(words, redirection).returncode == (mistake or int("full" in redirection))
    ended = shell(words, ">/dev/full")
    assert ended.returncode == (mistake or 1)
    assert codes(ended.stderr) == (["unknown-command"] if mistake else ["output-lost"])


@pytest.mark.parametrize("command", ["describe", "verify"])
def test_output_that_is_the_result_is_missed(command: str, small_dataset: Path) -> None:
    words = [sys.executable, "-c", CGAN, command, small_dataset]
    assert shell(words, "").returncode == 0
    ended = shell(words, ">/dev/full")
    assert ended.returncode == 1 and codes(ended.stderr) == ["output-lost"]
    assert shell(words, ">&-").returncode == 0


def test_training_outlives_its_terminal(small_dataset: Path, tmp_path: Path) -> None:
    """The other end of a pseudo-terminal is closed: every write fails with EIO."""
    master, slave = os.openpty()
    run = tmp_path / "run"
    words = [
        sys.executable,
        str(MAIN),
        *TINY,
        "--shards",
        str(small_dataset),
        "--run",
        str(run),
        "--total-images",
        "32",
    ]
    process = subprocess.Popen(
        words, stdin=slave, stdout=slave, stderr=slave, env=environment(0, {}), start_new_session=True
    )
    os.close(slave)
    os.close(master)
    assert process.wait(120) == 0
    assert checkpoints(run) == [f"{32:012d}"]
