"""The benchmarks run, and measure what they say they do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import article_step
import pytest
import torch
from conftest import ROOT

from trainer.networks import Architecture, build


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_both_sides_have_the_same_networks() -> None:
    sizes = {"size": article_step.SIZE, "widths": article_step.WIDTHS, "noise": article_step.NOISE}
    g, d = build(Architecture(family="article", embedding=0, **sizes))
    with torch.device("meta"):  # counted, not filled
        published_g, published_d = article_step.PublishedGenerator(), article_step.PublishedDiscriminator()
    assert parameters(g) == parameters(published_g)
    assert parameters(d) == parameters(published_d)


@pytest.mark.long
def test_article_step(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "article_step.py"), "--pairs", "2", "--batch", "2"]
    done = subprocess.run(
        [*command, "--json", str(file)], capture_output=True, text=True, check=True, cwd=tmp_path, env=os.environ
    )
    figures = json.loads(file.read_text())
    assert done.stdout.splitlines()[-1] == f"ratio: {figures['ratio']:.2f}"
    assert len(figures["seconds"]["ours"]) == len(figures["seconds"]["theirs"]) == 2
    assert figures["ratio"] > 1, "the published loop does more of everything"


@pytest.mark.long
def test_loop_overhead(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "loop_overhead.py"), "--preset", "smoke", "--size", "16"]
    done = subprocess.run(
        [*command, "--steps", "16", "--pairs", "3", "--json", str(file)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=os.environ,
    )
    figures = json.loads(file.read_text())
    assert done.stdout.splitlines()[-1] == f"ratio: {figures['ratio']:.3f}"
    assert len(figures["ratios"]) == 3
    assert figures["loop_images_per_second"] > 0
