"""A training whose data worker is killed or stopped: one sentence, a checkpoint, and an end within 15 seconds."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import psutil
import pytest

from support.errors import assert_printed
from support.launching import checkpoints, make_dataset, metrics, start, train

OPTIONS = ("--preset", "smoke", "--batch", "16", "--workers", "2", "--threads", "1", "--log-with", "none")


def data_workers(launched: int) -> list[psutil.Process]:
    """Return the processes of a job that have no children and whose command is that of their parent."""
    everyone = psutil.Process(launched).children(recursive=True)
    return [p for p in everyone if not p.children() and p.cmdline() == psutil.Process(p.ppid()).cmdline()]


@pytest.mark.parametrize(
    ("sent", "processes"),
    [("SIGKILL", 0), pytest.param("SIGKILL", 2, marks=pytest.mark.exhaustive), ("SIGSTOP", 0), ("SIGBUS", 0)],
)
def test_a_lost_data_worker_ends_the_training_saved(tmp_path: Path, sent: str, processes: int) -> None:
    data, run = make_dataset(tmp_path / "data"), tmp_path / "run"
    words = (*OPTIONS, "--shards", data.path, "--run", run)
    process = start(*words, "--total-images", "10000000", processes=processes)
    until = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or not metrics(run):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    data_workers(process.pid)[-1].send_signal(getattr(signal, sent))
    began = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 15 and process.returncode == 1
    what = "a data worker had a bus error" if sent == "SIGBUS" else "a data worker was"
    assert_printed(output, "worker-killed", what, str(run))
    assert output.count("[worker-killed]") == 1
    assert processes or "Traceback" not in output, "with several processes, the launcher prints one"
    (saved,) = checkpoints(run)
    seen = int(saved.lstrip("0"))
    train(*words, "--total-images", seen + 160)
    assert int(checkpoints(run)[-1].lstrip("0")) == seen + 160


def test_a_stopped_data_worker_does_not_keep_a_stopped_run_from_ending(tmp_path: Path) -> None:
    data, run = make_dataset(tmp_path / "data"), tmp_path / "run"
    process = start(*OPTIONS, "--shards", data.path, "--run", run, "--total-images", "10000000")
    until = time.monotonic() + 60
    while not (run / "metrics.jsonl").exists() or not metrics(run):
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.2)
    for worker in data_workers(process.pid):
        worker.send_signal(signal.SIGSTOP)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    output, _ = process.communicate(timeout=60)
    assert time.monotonic() - began < 15 and process.returncode == 0, output
    assert "SIGTERM" in output and len(checkpoints(run)) == 1
