"""The benchmarks run, and measure what they say they do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import article_step
import checkpoint
import gpu_check.command
import penalty
import pytest
import scaling
import step
import torch
from gpu_check import correctness
from gpu_check.check import Check, Outcome
from gpu_check.command import GpuCheckOptions
from gpu_check.correctness import place
from gpu_check.machine import Machine
from gpu_check.utilization import flop_of, mfu_of
from published import NOISE, SIZE, PublishedDiscriminator, PublishedGenerator

import trainer.step
from shards.dataset.image_shape import ImageShape
from support import ROOT
from support.errors import raises
from trainer.distributed.process_group import Distributed
from trainer.networks import Architecture, build
from trainer.noise import normal
from trainer.run.async_checkpoint import Snapshot


def parameters(module: torch.nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_both_sides_have_the_same_networks() -> None:
    sizes = {"size": SIZE, "widths": article_step.WIDTHS, "noise": NOISE}
    g, d = build(Architecture(family="article", embedding=0, **sizes))
    with torch.device("meta"):  # counted, not filled
        label = sum(article_step.WIDTHS)
        published_g, published_d = PublishedGenerator(label), PublishedDiscriminator(label)
    assert parameters(g) == parameters(published_g)
    assert parameters(d) == parameters(published_d)


@pytest.mark.exhaustive
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
    arithmetic = figures["arithmetic"]
    assert arithmetic["gigaflop_a_step"] > 2 * 2 * 4, "two images, each more than four billion multiplications"
    assert all(0 < arithmetic["gigaflops"] < best for best in arithmetic["gigaflops_at_best"].values())


@pytest.mark.long
def test_loop_overhead(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / "loop_overhead.py"), "--preset", "faces32", "--size", "8"]
    done = subprocess.run(
        [*command, "--steps", "2", "--pairs", "3", "--json", str(file)],
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


@pytest.mark.long
def test_checkpoint(tmp_path: Path) -> None:
    printed, figures = run("checkpoint.py", ["--preset", "smoke", "--steps", "8", "--pairs", "2"], tmp_path)
    assert figures["megabytes"] > 0.1
    assert {side: len(taken) for side, taken in figures["seconds"].items()} == dict.fromkeys(checkpoint.SIDES, 2)
    assert figures["cost"].keys() == {"waited for", "beside"}
    assert printed[-1].startswith("ratio: ")


@pytest.mark.parametrize("name", step.CASES)
def test_every_case_builds_and_contradicts_its_labels(name: str) -> None:
    config, size = step.case(name)
    with torch.device("meta"):  # counted, not filled
        g, d = build(step.architecture_of(config.network, ImageShape.of(size), step.WIDTHS))
    assert parameters(d) and parameters(g)
    batch = step.synthetic(config, size)
    assert batch.images.shape == (config.data.batch, 3, size, size)
    assert not (batch.labels * batch.wrong_labels).any()


def test_ranks_share_a_global_batch() -> None:
    config, size = step.case("smoke")
    whole = step.synthetic(config, size)
    shares = [scaling.share_of(whole, rank, 2) for rank in (0, 1)]
    assert torch.equal(torch.cat([share.images for share in shares]), whole.images)
    assert torch.equal(torch.cat([share.positions for share in shares]), whole.positions)
    assert {share.wrong_count for share in shares} == {whole.wrong_count}


def test_the_plain_loop_takes_the_step_that_ours_takes() -> None:
    """From equal weights, noise and images, at a step with penalties, D's loss and update are the same."""
    config, size = step.case("smoke")
    env = Distributed("cpu", "no", threads=1)
    state = step.build_state(config, env, ImageShape.of(size), step.WIDTHS, step.KINDS)
    plain = step.PlainLoop(config, size, env.device)
    before = flat(state.d.module)
    batch = step.synthetic(config, size)
    z = normal(config.seed, "noise of D", batch.positions, config.network.noise_size)
    with mock.patch.object(torch, "randn", return_value=z):
        plain.step()
    losses = state.step(batch).losses
    assert plain.log["d"] == pytest.approx(losses["loss/d"].item(), rel=1e-4)
    ours, theirs = flat(state.d.module) - before, flat(plain.d) - before
    # Adam's first step is the gradient's sign, which rounding may turn where the gradient is next to nothing.
    assert (ours - theirs).norm() < 0.1 * ours.norm()


def flat(module: torch.nn.Module) -> torch.Tensor:
    """All weights in one vector."""
    return torch.cat([p.detach().reshape(-1).clone() for p in module.parameters()])


def test_regions_leave_out_what_is_inside_others() -> None:
    regions = step.Regions(torch.device("cpu"))
    with regions.region("outer"):
        time.sleep(0.02)
        with regions.region("inner"):
            time.sleep(0.05)
    assert 0.02 <= regions.seconds["outer"] < 0.05 <= regions.seconds["inner"]


@pytest.mark.long
def test_step(tmp_path: Path) -> None:
    words = ["--presets", "smoke", "--pairs", "3"]
    printed, figures = run("step.py", words, tmp_path)
    found = figures["presets"]["smoke"]
    assert printed[-1] == f"ratio: {found['ratio']:.2f} (smoke)"
    assert found["steps"] == 16, "a turn goes from one penalty to the next"
    assert len(found["seconds"]["ours"]) == len(found["seconds"]["theirs"]) == 3
    assert all(peak > 100 for peak in found["peak_megabytes"].values())
    assert sum(found["regions"].values()) == pytest.approx(1)
    parts = {"images for D", "D's forward", "D's backward", "penalty steps of D", "optimizers", "average"}
    assert parts | {"G's forward and backward, through D"} <= found["regions"].keys()


@pytest.mark.exhaustive
def test_memory_stays_over_eight_hundred_steps(tmp_path: Path) -> None:
    """Nothing that a step makes is kept: from the first tenth on, a few megabytes of the allocator's are all."""
    printed, figures = run("memory.py", ["--steps", "800", "--seconds", "200"], tmp_path)
    found = figures["presets"]["smoke"]
    steps = [steps for steps, _ in found["rows"]]
    assert steps == list(range(80, 801, 80))[: len(steps)]
    assert re.match(r"smoke: [\d.]+ MB after 80 steps, ", printed[-2])
    assert printed[-1] == f"growth: {found['growth']:.1f} MB in {found['steps']:,} steps (smoke)"
    if found["steps"] < 320:
        pytest.skip(f"{found['steps']} steps in its time: this machine is too slow, or too busy, to tell")
    assert found["growth"] < 5  # 7 kB a step


def test_memory_is_watched_over_fewer_than_ten_steps(tmp_path: Path) -> None:
    _, figures = run("memory.py", ["--steps", "3"], tmp_path)
    assert [steps for steps, _ in figures["presets"]["smoke"]["rows"]] == [1, 2, 3]


@pytest.mark.exhaustive
def test_scaling(tmp_path: Path) -> None:
    printed, figures = run("scaling.py", ["--preset", "smoke", "--batch", "12", "--pairs", "2"], tmp_path)
    assert figures["batch"] == 12
    assert set(figures["seconds"]) == set(scaling.SIDES)
    assert all(len(taken) == 2 for taken in figures["seconds"].values())
    assert set(figures["ratios"]) == set(scaling.SIDES) - {scaling.PLAIN}
    assert [line for line in printed if line.startswith("ratio: ")] == printed[-2:]
    assert any("2 processes of 1 thread, precision" in line for line in printed), "as the job's own processes say"


WITHOUT_PACKAGES = """
import sys
from importlib.machinery import PathFinder

ABSENT = {"fire", "termcolor", "simplejpeg", "webdataset", "braceexpand", "wandb"}


class Finder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name in ABSENT:
            path = [place for place in sys.path if "stand_ins" in place]
        return super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder
"""


@pytest.mark.exhaustive
def test_gpu_check_is_rehearsed_on_the_cpu_without_packages_that_a_gpu_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WITHOUT_PACKAGES)
    file = tmp_path / "gpu-check.json"
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "gpu_check"), "--cpu", "--json", str(file)],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    figures = json.loads(file.read_text())
    names = "place keyed_numbers parity no_waiting repeats broken_step saving whole_runs pace graphed".split()
    assert list(figures["checks"]) == [*names, "second_derivative", "compiled", "feed"], "in the order of their worth"
    verdicts = {name: found["verdict"] for name, found in figures["checks"].items()}
    assert all(verdicts[name] == "PASS" for name in names[1:9]), done.stdout
    assert figures["rehearsal"] and not figures["left out"]
    assert figures["checks"]["whole_runs"]["figures"]["different"] == []
    assert done.stdout.splitlines()[-1] == "0 of 13 checks failed"


@pytest.mark.parametrize(
    ("card", "precision", "tf32", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", "bf16", False, 989e12),
        ("NVIDIA H100 PCIe", "bf16", False, 756e12),
        ("NVIDIA A100-SXM4-80GB", "no", True, 156e12),
        ("NVIDIA A100-SXM4-80GB", "no", False, 19.5e12),
        ("NVIDIA L40S", "fp16", False, 362e12),
        ("NVIDIA L4", "fp16", False, 121e12),
        ("NVIDIA L40", "bf16", False, None),
        ("a card of the future", "bf16", False, None),
    ],
)
def test_mfu_is_the_part_of_a_cards_peak_that_a_step_uses(
    card: str, precision: str, tf32: bool, peak: float | None
) -> None:
    x, layer = torch.zeros(2, 4, 8, 8), torch.nn.Conv2d(4, 16, 3, padding=1)
    flop = flop_of(lambda: layer(x).sum().backward())
    assert flop == 2 * 2 * (2 * 16 * 4 * 9 * 8 * 8), "forward, and the gradient of the weights"
    with mock.patch.object(torch.cuda, "get_device_name", return_value=card):
        found = mfu_of(Machine(torch.device("cuda")), flop, 1e-6, precision, tf32)
    assert found == (None if peak is None else pytest.approx(flop / 1e-6 / peak))
    assert mfu_of(Machine(torch.device("cpu")), flop, 1e-6, precision, tf32) is None


def test_gpu_check_counts_failures_and_names_what_it_had_no_time_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(machine: Machine) -> Outcome:
        raise RuntimeError("no such kernel")

    checks = (Check(fails, 1), Check(lambda machine: Outcome(True, "fine"), 1), Check(place, 10_000))
    options = GpuCheckOptions(json=tmp_path / "figures.json", seconds=100)
    with (
        mock.patch.object(gpu_check.command, "CHECKS", checks),
        mock.patch.object(torch.cuda, "is_available", return_value=True),
    ):
        assert gpu_check.command.run(options) == 1
    figures = json.loads(options.json.read_text())
    assert figures["checks"]["fails"] | {"seconds": 0} == {
        "verdict": "FAIL",
        "says": "RuntimeError: no such kernel",
        "seconds": 0,
        "figures": {},
    }
    assert figures["left out"] == ["place"]
    assert capsys.readouterr().out.splitlines()[-1] == "1 of 2 checks failed; no time was left for place"


def test_gpu_check_notices_steps_that_are_not_skipped_and_copies_of_a_later_moment() -> None:
    machine = Machine(torch.device("cpu"))

    def never_skips(env: Distributed, module: torch.nn.Module, optimizer: torch.optim.Optimizer) -> torch.Tensor:
        optimizer.step()
        return torch.nn.utils.get_total_norm([p.grad for p in module.parameters() if p.grad is not None])

    with mock.patch.object(Distributed, "step", never_skips):
        found = correctness.broken_step(machine)
    assert found.verdict == "FAIL"
    assert "tensors changed" in found.says
    with mock.patch.object(Snapshot, "take", lambda self, tensors: setattr(self, "_copies", tensors)):
        found = correctness.saving(machine)
    assert found.verdict == "FAIL"
    assert "of another moment" in found.says


def test_gpu_check_says_that_there_is_no_gpu(tmp_path: Path) -> None:
    with mock.patch.object(torch.cuda, "is_available", return_value=False), raises("device-missing", "--cpu"):
        gpu_check.command.run(GpuCheckOptions(json=tmp_path / "figures.json"))


def test_penalty(tmp_path: Path) -> None:
    """Only their side has torch's own second derivatives, whose kernels are whole feature maps."""
    printed, figures = run("penalty.py", ["--presets", "smoke", "--pairs", "2"], tmp_path)
    found = figures["presets"]["smoke"]
    assert printed[-1] == f"ratio: {found['ratio']:.2f} (smoke)"
    assert {side: len(taken) for side, taken in found["seconds"].items()} == {"ours": 2, "theirs": 2}
    cheap = trainer.step.cheap_second_derivatives
    with penalty.SIDES["theirs"]():
        assert isinstance(trainer.step.cheap_second_derivatives(True), nullcontext)
    with penalty.SIDES["ours"]():
        assert trainer.step.cheap_second_derivatives is cheap


def run(name: str, words: list[str], folder: Path) -> tuple[list[str], dict[str, Any]]:
    """What a benchmark printed, and the figures it wrote."""
    file = folder / "figures.json"
    command = [sys.executable, str(ROOT / "benchmarks" / name), *words, "--json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder, env=os.environ)
    return done.stdout.splitlines(), json.loads(file.read_text())
