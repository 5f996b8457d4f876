"""A dataset and a run made at f7694f2, before the packages, still verify, resume, sample, report and evaluate."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support import ROOT
from support.launching import checkpoints, metrics, train

OLD = ROOT / "tests" / "data" / "f7694f2"
# The options of the old run, as in tests/data/f7694f2/README.md.
OPTIONS = (
    "--preset smoke --batch 8 --log-every 16 --grid-every 32 --checkpoint-every 32 --keep 1 --channels 8,4,4 "
    "--noise-size 8 --label-size 8 --log-with none --dtype float64"
).split()


@pytest.fixture
def old(tmp_path: Path) -> Path:
    """Return a copy of the old dataset and run that a test may change."""
    shutil.copytree(OLD, tmp_path / "old")
    return tmp_path / "old"


def run(*words: object) -> str:
    """Run a command to its end and return what it printed."""
    command = [sys.executable, "-m", *map(str, words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pixels(path: Path) -> np.ndarray:
    """Return the pixels of a PNG file as int16 (H, W, 3), so that differences do not wrap."""
    return np.asarray(Image.open(path).convert("RGB"), np.int16)


def test_old_dataset_verifies_and_is_described(old: Path) -> None:
    run("shards", "verify", old / "dataset")
    assert "48" in run("shards", "describe", old / "dataset")


def test_old_run_samples_the_same_images(old: Path) -> None:
    run("trainer", "sample", old / "run", "blue hair, long hair", "--count", 2, "--seed", 3, "--out", old / "new.png")
    assert np.abs(pixels(old / "new.png") - pixels(OLD / "blue.png")).max() <= 1


def test_old_run_resumes_as_the_old_code_did(old: Path) -> None:
    train("--shards", old / "dataset", "--run", old / "run", "--total-images", 128, *OPTIONS)
    assert checkpoints(old / "run") == ["000000000128"]
    expected = [json.loads(line) for line in (OLD / "resumed-metrics.jsonl").read_text().splitlines()]
    rows = metrics(old / "run")
    assert [row["images_seen"] for row in rows] == [row["images_seen"] for row in expected]
    for row, was in zip(rows, expected, strict=True):
        assert row.keys() <= was.keys() and {key for key in was if not key.startswith(("speed/", "time"))} == set(row)
        for key, value in row.items():
            assert math.isclose(value, was[key], rel_tol=1e-6, abs_tol=1e-9), key
    assert (old / "run" / "report.html").exists()


def test_old_run_is_evaluated_to_the_same_figures(old: Path) -> None:
    run("trainer", "evaluate", old / "run", "--shards", old / "dataset", "--count", 64)
    row, was = (json.loads((p / "evaluation.json").read_text())["evaluations"]["64"][0] for p in (old / "run", OLD))
    assert row.keys() >= was.keys() and row["figures"].keys() >= was["figures"].keys()
    for part in ("real", "figures"):
        found = {key: value for key, value in row[part].items() if key in was["figures"]}
        assert found == pytest.approx(was[part], rel=0.02, abs=0.02)
    assert any("lineage.json" in note for note in row["notes"]), "what touched it is not known"


def test_old_run_is_reported_and_compared(old: Path) -> None:
    run("trainer", "report", old / "run")
    assert "smoke" in (old / "run" / "report.html").read_text()
    assert "64" in run("trainer", "compare", old / "run", old / "run")
