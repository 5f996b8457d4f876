"""The data side's benchmarks run, measure all their sides, and print what they wrote down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import ROOT


def run(name: str, folder: Path, *words: str) -> tuple[dict[str, Any], list[str]]:
    """The figures of a benchmark at a small scale, and the lines that it printed."""
    file = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), *words, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return json.loads(file.read_text()), done.stdout.splitlines()


def test_pack(tmp_path: Path) -> None:
    figures, said = run("pack", tmp_path, "--images", "8", "--repetitions", "2", "--size", "32")
    assert list(figures["seconds"]) == ["ours, 1 worker", "ours, 2 workers", "wds.ShardWriter"]
    assert all(len(times) == 2 for times in figures["seconds"].values())
    assert said[-1] == f"2 workers / ShardWriter: {figures['ratios']['2 workers / ShardWriter']:.2f}"


@pytest.mark.long
def test_loader(tmp_path: Path) -> None:
    scale = ["--images", "64", "--size", "32", "--batch", "16", "--batches", "3", "--rounds", "2"]
    figures, said = run("loader", tmp_path, *scale)
    measured = {name for name, speeds in figures["images_per_second"].items() if len(speeds) == 2}
    assert {"ours", "ours, first epoch", "ours, later epochs", "WebLoader", "ours, raw"} <= measured
    ratio = figures["ratios"]["ours, later epochs, over WebLoader"]
    assert said[-1] == f"ratio: {ratio:.2f} (ours, later epochs, over WebLoader)" and ratio > 0


def test_order(tmp_path: Path) -> None:
    figures, said = run("order", tmp_path, "--powers", "3", "4", "--rounds", "1")
    assert figures and sum(line.startswith("ratio: ") for line in said) == 2


@pytest.mark.long
def test_resume(tmp_path: Path) -> None:
    scale = ["--samples", "10000", "--shards", "10", "--position", "100000", "--batch", "8", "--pairs", "1"]
    figures, said = run("resume", tmp_path, *scale)
    assert figures and said[-1].startswith("ratio: ")
