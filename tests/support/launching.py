"""Real data sets and real processes for the tests: small runs of the trainer as a person starts them."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from shards.dataset.dataset import Dataset
from shards.dataset.decode import decode_into
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from support import ROOT

MAIN = ROOT / "trainer" / "main.py"
CONFIG = ROOT / "accelerate_config.yaml"

# A run of seconds; every option that a test compares is written out.
TINY = (
    "--preset smoke --batch 16 --log-every 32 --grid-every 10000 --checkpoint-every 10000 "
    "--workers 0 --threads 1 --log-with none"
).split()


def make_dataset(folder: Path, count: int = 64, size: int = 16, per_shard: int = 20) -> Dataset:
    """A packed data set of drawn shapes."""
    write_folder(folder / "source", count, size)
    pack(Pack(src=folder / "source", out=folder / "data", size=size, workers=1, per_shard=per_shard))
    return Dataset.open(folder / "data")


def decoded(data: bytes, size: int) -> np.ndarray:
    """The pixels of one packed image, uint8 (3, size, size)."""
    pixels = np.empty((size, size, 3), np.uint8)
    decode_into(data, pixels)
    return pixels.transpose(2, 0, 1)


def environment(processes: int, extra: dict[str, str]) -> dict[str, str]:
    """The environment of a trainer: conftest.py has cleaned this process's own already."""
    cpu = {"ACCELERATE_USE_CPU": "true"} if processes > 1 else {}
    return {**os.environ, "PYTHONUNBUFFERED": "1", **cpu, **extra}


def command(words: Sequence[object], processes: int = 0, program: Path = MAIN) -> list[str]:
    """The command line: plain Python for 0 processes, else `accelerate launch` with that many."""
    if processes == 0:
        return [sys.executable, str(program), *map(str, words)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIG)]
    if processes > 1:
        launch += ["--multi_gpu", "--num_processes", str(processes), "--main_process_port", str(free_port())]
    return [*launch, str(program), *map(str, words)]


def train(*words: object, processes: int = 0, expect: int | None = 0, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the trainer to its end.

    Args:
        words: its options.
        processes: see `command`.
        expect: the exit status it must have; None for any.
    """
    env = environment(processes, extra)
    done = subprocess.run(command(words, processes), env=env, capture_output=True, text=True, timeout=300, check=False)
    assert expect is None or done.returncode == expect, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done


def start(*words: object, processes: int = 0, **extra: str) -> subprocess.Popen[str]:
    """Start the trainer in a process group of its own, its output in pipes."""
    return subprocess.Popen(
        command(words, processes),
        env=environment(processes, extra),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def copy_of_the_checkout(target: Path) -> Path:
    """What a commit of everything would hold, with this test's environment in the place of .venv."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, capture_output=True, check=True).stdout.decode().split("\0")
    except (OSError, subprocess.CalledProcessError):  # an unpacked archive
        kept = (p for p in ROOT.rglob("*") if not {".git", ".venv", "__pycache__"} & set(p.relative_to(ROOT).parts))
        listed = [str(p.relative_to(ROOT)) for p in kept]
    for name in filter(None, listed):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(sys.prefix)
    return target


def untracked(checkout: Path) -> list[str]:
    """What `git status` would list in a copy of the checkout: paths that are neither committed nor ignored."""
    listed: list[list[str]] = []
    for folder in (ROOT, checkout):
        git = ["git", "-c", "core.excludesFile=", f"--git-dir={checkout}.git", f"--work-tree={folder}"]
        subprocess.run([*git, "init", "-q"], capture_output=True, check=True)
        names = subprocess.run([*git, "ls-files", "-z", "-o", "--exclude-standard"], capture_output=True, check=True)
        listed.append(names.stdout.decode().split("\0"))
    own = (".venv", ".cache")  # `copy_of_the_checkout` and `documents.environment` put them there
    return sorted(n for n in set(listed[1]) - set(listed[0]) if n.partition("/")[0] not in own)


def free_port() -> int:
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def checkpoints(run: Path) -> list[str]:
    """Names of a run's checkpoints, oldest first."""
    return sorted(p.name for p in (run / "checkpoints").iterdir() if p.name.isdigit())


def tensors(run: Path) -> dict[str, np.ndarray]:
    """Every tensor of a run's newest checkpoint, as file/name."""
    newest = run / "checkpoints" / checkpoints(run)[-1]
    return {f"{p.stem}/{k}": v for p in sorted(newest.glob("*.safetensors")) for k, v in load_file(p).items()}


def metrics(run: Path) -> list[dict[str, float]]:
    """The rows of metrics.jsonl, without what the clock on the wall decides."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("speed/", "time"))} for row in rows]


def assert_same_run(one: Path, other: Path) -> None:
    """Both runs ended with the same bits: weights, average, optimizer, and what they logged."""
    a, b = tensors(one), tensors(other)
    assert a.keys() == b.keys() and a
    for name in a:
        assert np.array_equal(a[name], b[name]), name
    assert metrics(one) == metrics(other)
