"""A run of --minutes on this machine's clock."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

import trainer
from support.launching import make_dataset
from trainer import config, loop
from trainer.run import checkpoint

OPTIONS = {"preset": "smoke", "batch": 16, "log_with": "none", "workers": 0, "threads": 1, "decay": "cosine"}


@pytest.mark.long
def test_a_run_ends_on_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = make_dataset(tmp_path).path
    started = time.monotonic()
    run = trainer.train(run=tmp_path / "run", shards=str(data), minutes=0.2, **OPTIONS)
    assert time.monotonic() - started == pytest.approx(12, rel=0.25)  # the report at the end included
    saved = checkpoint.find(run)
    assert saved.state.plan is not None
    assert saved.images_seen == saved.state.plan.total
    assert saved.state.plan.seconds == pytest.approx(12, rel=0.05)
    trainer.train(run=run, shards=str(data), minutes=0.2, **OPTIONS)
    assert "is complete" in capsys.readouterr().out


def test_a_dry_run_says_how_many_images_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "_PROBE_SECONDS", 0.0)
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    data = make_dataset(tmp_path).path
    loop.train(config.load([*words, f"--shards={data}", "--minutes=10", "--dry-run", f"--run={tmp_path / 'run'}"]))
    line = capsys.readouterr().out.splitlines()[-1]
    assert "images per second in 8 steps" in line
    assert "fit into 10 minutes" in line
    ends = re.search(r"would end at (\d{4}-\d\d-\d\d \d\d:\d\d)", line)
    assert ends is not None
    assert datetime.fromisoformat(ends[1]) == pytest.approx(
        datetime.now() + timedelta(minutes=10), abs=timedelta(minutes=2)
    )
    assert not (tmp_path / "run").exists()
