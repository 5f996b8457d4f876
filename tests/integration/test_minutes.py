"""A run of --minutes on this machine's clock."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import yaml

import trainer
from support.launching import make_dataset, train
from trainer import config
from trainer.distributed.process_group import Distributed
from trainer.run import checkpoint
from trainer.setup import dry_run, training
from trainer.sizing import choice, probe
from trainer.sizing.probe import Probe

OPTIONS = {"preset": "smoke", "batch": 16, "log_with": "none", "workers": 0, "threads": 1, "decay": "cosine"}
FACES = {"preset": "faces32", "log_with": "none", "workers": 0}
PAUSE = 2.0  # seconds for which tests that run next to this one may hold up its last steps
FULL, HALF = (64, 48, 32, 16), (32, 24, 16, 8)  # of faces32's channels


@contextmanager
def neighbour(after: float) -> Iterator[None]:
    """Keep all cores busy from ``after`` seconds on."""
    busy: list[subprocess.Popen[bytes]] = []

    def come() -> None:
        busy.extend(subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1))

    timer = threading.Timer(after, come)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
        for process in busy:
            process.kill()
            process.wait()


@pytest.fixture
def a_slow_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the probes of --fit find 60 images per second, and twice as many with fewer channels.

    They measure a short run for a tenth of a second, in which a test that runs next to this one can tip the balance.
    """

    def speeds(probes: list[Probe], env: Distributed, seconds: float) -> list[float]:
        assert all(speed > 0 for speed in probe.speeds(probes, env, seconds))
        return [60.0, 120.0][: len(probes)]

    monkeypatch.setattr(choice, "speeds", speeds)


@pytest.mark.long
def test_a_run_ends_on_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path).path
    started = time.monotonic()
    run = trainer.train(run=tmp_path / "run", shards=str(data), minutes=0.2, **OPTIONS)
    assert time.monotonic() - started == pytest.approx(12, rel=0.25)  # the report at the end included
    saved = checkpoint.find(run)
    assert saved.state.plan is not None
    assert saved.images_seen == saved.state.plan.total
    assert saved.state.plan.seconds == pytest.approx(12, abs=PAUSE)
    trainer.train(run=run, shards=str(data), minutes=0.2, **OPTIONS)
    assert "is complete" in capsys.readouterr().out


@pytest.mark.long
@pytest.mark.parametrize("after", [10, pytest.param(20, marks=pytest.mark.exhaustive)])
def test_a_run_ends_on_time_although_a_neighbour_comes(tmp_path: Path, after: float) -> None:
    data = make_dataset(tmp_path).path
    with neighbour(after):
        run = trainer.train(run=tmp_path / "run", shards=str(data), minutes=0.5, **OPTIONS)
    saved = checkpoint.find(run)
    assert saved.state.plan is not None
    assert saved.images_seen == saved.state.plan.total
    assert saved.state.plan.seconds == pytest.approx(30, abs=PAUSE)


@pytest.mark.long
@pytest.mark.usefixtures("a_slow_machine")
def test_a_short_run_is_smaller_and_stays_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path, size=32).path
    run = trainer.train(run=tmp_path / "run", shards=str(data), minutes=0.2, **FACES)
    printed = capsys.readouterr().out
    assert "size: not as preset faces32, 8 images per step and channels 32,24,16,8" in printed
    options = yaml.safe_load((run / "config.yaml").read_text())
    assert (tuple(options["channels"]), options["batch"], options["fit"]) == (HALF, 8, "size")
    first = checkpoint.find(run)
    assert first.state.architecture.channels == HALF

    trainer.train(run=run, shards=str(data), minutes=0.2, **FACES)
    printed = capsys.readouterr().out
    assert "is complete" in printed and "--minutes 0.4" in printed and "size:" not in printed

    trainer.train(run=run, shards=str(data), minutes=0.4, **FACES)
    printed = capsys.readouterr().out
    assert f"resuming at {first.images_seen:,}" in printed and "size:" not in printed
    more = checkpoint.find(run)
    assert more.images_seen > first.images_seen
    assert more.state.architecture == first.state.architecture
    assert more.state.plan is not None
    assert more.state.plan.seconds == pytest.approx(24, abs=PAUSE)


@pytest.mark.long
def test_two_processes_choose_one_size(tmp_path: Path) -> None:
    data = make_dataset(tmp_path, size=32).path
    words = ("--preset", "faces32", "--shards", data, "--run", tmp_path / "run", "--log-with", "none")
    done = train(*words, "--workers", 0, "--minutes", 0.2, processes=2)
    (line,) = re.findall("(?m)^size: .*", done.stdout)
    # Where two processes mostly wait for each other, a smaller size makes hardly more updates.
    chosen = HALF if "not as preset" in line else ()
    assert f"channels {','.join(map(str, chosen or FULL))};" in line
    assert checkpoint.find(tmp_path / "run").state.architecture.channels == chosen
    done = train(*words, "--workers", 0, "--minutes", 0.2)
    assert "is complete" in done.stdout, "one process keeps what two have chosen"


@pytest.mark.long
@pytest.mark.usefixtures("a_slow_machine")
def test_a_dry_run_says_which_size_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "_PROBE_SECONDS", 0.0)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in FACES.items()]
    data = make_dataset(tmp_path, size=32).path
    training.train(config.load([*words, f"--shards={data}", "--minutes=0.1", "--dry-run", f"--run={tmp_path / 'run'}"]))
    printed = capsys.readouterr().out
    assert "size: not as preset faces32, 8 images per step and channels 32,24,16,8" in printed
    assert "  channels: [32, 24, 16, 8]\n" in printed
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_how_many_images_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dry_run, "_PROBE_SECONDS", 0.0)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    data = make_dataset(tmp_path).path
    training.train(config.load([*words, f"--shards={data}", "--minutes=10", "--dry-run", f"--run={tmp_path / 'run'}"]))
    line = capsys.readouterr().out.splitlines()[-1]
    assert "images per second in 8 steps" in line
    assert "fit into --minutes 10" in line
    ends = re.search(r"would end at (\d{4}-\d\d-\d\d \d\d:\d\d)", line)
    assert ends is not None
    assert datetime.fromisoformat(ends[1]) == pytest.approx(
        datetime.now() + timedelta(minutes=10), abs=timedelta(minutes=2)
    )
    assert not (tmp_path / "run").exists()
