"""A run resumes with another number of processes as if it had never stopped: same images, labels, noise and weights.

Weights agree up to rounding in float64 (`test_parity.py` explains why not in float32), since the gradients of the
processes are summed in another order.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from support.errors import codes
from support.launching import ROOT, TINY, checkpoints, command, environment, make_dataset, metrics, tensors, train

BATCH, IMAGES = 16, 320
STRICT = ["--dtype", "float64", "--loss", "hinge", "--penalty-every", 4, "--log-every", BATCH]
ADA = ["--augment", "ada", "--flip", "--ada-speed", 200, "--ada-target", 0.05]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_dataset(tmp_path_factory.mktemp("elastic"), count=50).path


def traced(trace: Path, run: Path, data: Path, processes: int, stop: int, words: Sequence[object]) -> str:
    """Start or resume a run until a signal at ``stop`` images (0: until its end), and return its output."""
    trace.mkdir(exist_ok=True)
    asked = [trace, stop, *TINY, *words, "--shards", data, "--run", run, "--total-images", IMAGES]
    line = command(asked, processes, ROOT / "tests" / "support" / "tracing.py")
    env = environment(processes, {})
    done = subprocess.run(line, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def shown(trace: Path) -> dict[int, dict[str, Any]]:
    """Return the global batch of each step, assembled from the parts of the processes in the order of ranks.

    Each step must have been taken exactly once, by one start of the run: not again after resuming.
    """
    steps: dict[int, dict[str, Any]] = {}
    starts: dict[int, str] = {}
    for file in sorted(trace.iterdir()):
        start = file.stem.rpartition("-")[0]
        for row in map(json.loads, file.read_text().splitlines()):
            clock = row["images_seen"]
            assert starts.setdefault(clock, start) == start, f"step at {clock} was repeated"
            whole = steps.setdefault(clock, {"positions": [], "images": [], "noise": [[], []]})
            whole["positions"] += row["positions"]
            whole["images"] += row["images"]
            for player, noise in zip(whole["noise"], row["noise"], strict=True):
                player += noise
    return steps


@pytest.mark.parametrize(
    ("worlds", "words"),
    [
        ((2, 0), []),
        pytest.param((4, 2, 1, 2, 4), ADA, marks=pytest.mark.exhaustive),
    ],
)
def test_a_run_resumes_with_other_numbers_of_processes(
    data: Path, tmp_path: Path, worlds: Sequence[int], words: list[object]
) -> None:
    """Stopped by a signal each time; the global batch and all other options stay the same."""
    traced(tmp_path / "whole trace", tmp_path / "whole", data, 0, 0, [*STRICT, *words])
    for number, world in enumerate(worlds, 1):
        last = number == len(worlds)
        stop = 0 if last else number * IMAGES // len(worlds) // BATCH * BATCH
        said = traced(tmp_path / "trace", tmp_path / "run", data, world, stop, [*STRICT, *words])
        assert last or "stopped (SIGTERM) and saved at" in said
        assert f"on cpu, {world or 1} process" in said
    expected, found = shown(tmp_path / "whole trace"), shown(tmp_path / "trace")
    assert list(found) == list(expected) == list(range(0, IMAGES, BATCH))
    assert found == expected
    assert [p for step in found.values() for p in step["positions"]] == list(range(IMAGES))
    assert {len(player) for step in found.values() for player in step["noise"]} == {BATCH}

    whole, run = tensors(tmp_path / "whole"), tensors(tmp_path / "run")
    assert whole.keys() == run.keys()
    for name, value in whole.items():
        assert np.allclose(run[name], value, rtol=0, atol=1e-8), (name, np.abs(run[name] - value).max())
    assert len(metrics(tmp_path / "run")) == IMAGES // BATCH
    for row, ours in zip(metrics(tmp_path / "whole"), metrics(tmp_path / "run"), strict=True):
        assert row == pytest.approx(ours, rel=1e-7, abs=1e-9)


def test_a_number_of_processes_that_does_not_divide_the_batch_is_one_error(data: Path, tmp_path: Path) -> None:
    """It is reported before anything in the run directory is changed."""
    run = tmp_path / "run"
    words = [*TINY, "--shards", data, "--run", run]
    train(*words, "--total-images", 16)
    before = {path: (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes()) for path in run.rglob("*")}
    done = train(*words, "--total-images", 32, processes=3, expect=None)
    assert done.returncode != 0
    assert codes(done.stderr) == ["batch-not-divisible"] and "--batch 16" in done.stderr
    after = {path: (path.stat().st_mtime_ns, path.is_dir() or path.read_bytes()) for path in run.rglob("*")}
    assert after == before
    assert checkpoints(run) == [f"{16:012d}"]
