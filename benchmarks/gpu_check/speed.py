"""Is it quick on a GPU: steps of the presets, CUDA graphs, second derivatives of convolutions, compiled networks."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import torch
import torch.nn.functional as F
from step import cadence

from gpu_check.check import Outcome
from gpu_check.machine import ROOT, Machine, Training, backends
from gpu_check.utilization import flop_of, mfu_of
from shards.core.errors import UserError
from trainer.networks.second_derivatives import cheap_second_derivatives

# Image size, options, and the preset's name in the budget of kernels and memory. The several GPUs of R3GAN's presets
# have 32 images each.
PRESETS: dict[str, tuple[int, str, str | None]] = {
    "faces32": (32, "--preset faces32", "faces32"),
    "faces64": (64, "--preset faces64", "faces64"),
    "article96": (96, "--preset article96", "article96"),
    "sngan64": (64, "--preset sngan64", "sngan64"),
    "r3gan64, batch 32": (64, "--preset r3gan64 --batch 32", "r3gan64"),
    "r3gan96, batch 32": (96, "--preset r3gan96 --batch 32", "r3gan96"),
}
REHEARSED = {"smoke": (16, "--preset smoke --penalty-every 2", None)}
VARIANTS: dict[str, dict[str, bool]] = {
    "": {},
    "cudnn.benchmark": {"benchmark": True},
    "deterministic": {"deterministic": True},
    "TF32": {"tf32": True},
}
BUDGET = ROOT / "tests" / "data" / "cuda_budget.json"
MARGIN = 1.2  # of measured kernels and memory over those of the budget
LAUNCHES = ("faces32", "faces64", "sngan64", "article96")  # presets whose launches cost more than their arithmetic


def pace(machine: Machine) -> Outcome:
    """Steps of the presets: ms, images/s, MFU, kernels, how busy the GPU is, peak memory, and what might help.

    Each preset fits the GPU, with at most a fifth more kernels and memory than were counted on fake tensors.
    """
    rows, lines, passed = [], [], True
    for name, (size, words, budgeted) in (PRESETS if machine.is_gpu else REHEARSED).items():
        flop = 0.0  # of a step, which all variants share
        for variant, switches in VARIANTS.items():
            row: dict[str, Any]
            try:
                with backends(**switches):
                    row = _pace_of(machine, size, words, detailed=not variant, switches=switches)
                flop = row.get("flop", flop)
                tf32 = switches.get("tf32", False)
                row["mfu"] = mfu_of(machine, flop, row["ms"] / 1e3, row["precision"], tf32)
            except torch.OutOfMemoryError as error:
                row = {"failed": str(error)[:120]}
            if not variant:
                row["over budget"] = _over_budget(row, budgeted) if machine.is_gpu else []
                passed = passed and "failed" not in row and not row["over budget"]
            rows.append({"preset": name, "with": variant} | row)
            lines.append(_line(name, variant, row))
    return Outcome(passed, "\n".join(lines), {"rows": rows})


def _pace_of(machine: Machine, size: int, words: str, *, detailed: bool, switches: dict[str, bool]) -> dict[str, Any]:
    if machine.is_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    training = machine.training(size, words.split())
    cycle = cadence(training.config)
    turn = training.endless(cycle)
    with backends(**switches):  # building the environment has set them
        seconds = machine.seconds_of(turn, 2 if detailed else 1) / cycle
        row: dict[str, Any] = {"ms": seconds * 1e3, "images_per_second": training.config.data.batch / seconds}
        row["precision"] = training.state.env.precision
        if machine.is_gpu:
            row["peak_gigabytes"] = torch.cuda.max_memory_allocated() / 1e9
        if detailed:
            row["flop"] = flop_of(turn) / cycle
        if detailed and machine.is_gpu:
            row["plain kernels"], busy, row["heaviest"] = kernels(machine, training, 1 if cycle > 1 else 0)
            row["penalty kernels"], *_ = kernels(machine, training, 0)
            row["busy"] = busy * 1e3 / row["ms"]
        if detailed and cycle > 1:
            row["penalty ms"] = machine.seconds_of(lambda: training.run(1, 0), 0.5) * 1e3
    return row


def kernels(machine: Machine, training: Training, number: int) -> tuple[int, float, list[tuple[str, int, float]]]:
    """Return the kernels of step ``number``, their seconds, and the six that take longest, with counts and ms."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as seen:
        training.run(1, number)
        machine.wait()
    found = sorted(seen.key_averages(), key=lambda event: -event.self_device_time_total)
    found = [event for event in found if event.self_device_time_total > 0]
    heaviest = [(event.key[:70], event.count, event.self_device_time_total / 1e3) for event in found[:6]]
    return sum(e.count for e in found), sum(e.self_device_time_total for e in found) / 1e6, heaviest


def _over_budget(row: dict[str, Any], preset: str | None) -> list[str]:
    """Return what exceeds the preset's budget of a step on fake tensors."""
    if preset is None or "failed" in row:
        return []
    budget = json.loads(BUDGET.read_text(encoding="utf-8"))[preset]
    measured = {f"{kind} kernels": row[f"{kind} kernels"] for kind in budget}
    allowed = {f"{kind} kernels": budget[kind]["kernels"] for kind in budget}
    measured["GB"], allowed["GB"] = row["peak_gigabytes"], max(b["peak_megabytes"] for b in budget.values()) / 1e3
    return [
        f"{name} {measured[name]:,.2f} of {allowed[name]:,.2f}"
        for name in allowed
        if measured[name] > MARGIN * allowed[name]
    ]


def _line(name: str, variant: str, row: dict[str, Any]) -> str:
    label = name + (f" with {variant}" if variant else "")
    if "failed" in row:
        return f"{label}: {row['failed']}"
    mfu = "-" if row["mfu"] is None else f"{row['mfu']:.1%}"
    parts = [f"{row['ms']:.2f} ms", f"{row['images_per_second']:,.0f} images/s", f"MFU {mfu}"]
    if "busy" in row:
        parts += [
            f"{row['plain kernels']} kernels ({row['penalty kernels']} with a penalty)",
            f"busy {row['busy']:.0%}",
        ]
        parts += [f"{row['peak_gigabytes']:.2f} GB"]
    if "penalty ms" in row:
        parts.append(f"a penalty step {row['penalty ms']:.2f} ms")
    if row.get("over budget"):
        parts.append("more than was counted: " + ", ".join(row["over budget"]))
    return f"{label}: {', '.join(parts)}"


def graphed(machine: Machine) -> Outcome:
    """A plain step captured once and replayed: what is left if nothing is launched one by one.

    The rates, the average's weight and the counters of such a step are frozen, so it only shows a speed.
    """
    figures: dict[str, float] = {}
    for name in LAUNCHES if machine.is_gpu else ():
        size, words, _ = PRESETS[name]
        training = machine.training(size, words.split())
        for player in (training.state.g, training.state.d):
            for group in player.optimizer.param_groups:
                group["capturable"] = True
        with mock.patch.object(training.state.guard, "observe"):
            side = torch.cuda.Stream()
            with torch.cuda.stream(side):
                training.run(3, 1)
            side.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                training.run(1, 1)
        figures[name] = machine.seconds_of(graph.replay, 1, 20) * 1e3
    return Outcome(None, ", ".join(f"{name} {ms:.2f} ms" for name, ms in figures.items()) or "needs a GPU", figures)


def second_derivative(machine: Machine) -> Outcome:
    """R3GAN's convolutions differentiated twice: torch's way, and by three convolutions."""
    shapes = ((64, 1536, 96, 16, 3), (64, 768, 48, 64, 3), (64, 768, 1, 32, 1), (64, 384, 384, 64, 3))
    figures, lines = [], []
    for n, channels, groups, side, kernel in shapes if machine.is_gpu else ((4, 32, 2, 8, 3),):
        step = _differentiated_twice(machine, n, channels, groups, side, kernel)
        ours = machine.seconds_of(lambda: step(True), 0.5) * 1e3  # noqa: B023 - called at once
        theirs = machine.seconds_of(lambda: step(False), 0.5) * 1e3  # noqa: B023
        figures.append({"shape": (n, channels, groups, side, kernel), "ours": ours, "torch": theirs})
        lines.append(f"({n}, {channels}, {side}, {side}), {groups} groups: {ours:.2f} against {theirs:.2f} ms")
    return Outcome(None, "; ".join(lines), {"rows": figures})


def _differentiated_twice(
    machine: Machine, n: int, channels: int, groups: int, side: int, kernel: int
) -> Callable[[bool], None]:
    def tensor(*shape: int) -> torch.Tensor:
        made = torch.randn(*shape, device=machine.device)
        return made.contiguous(memory_format=torch.channels_last).requires_grad_()

    x, w = tensor(n, channels, side, side), tensor(channels, channels // groups, kernel, kernel)

    def step(cheap: bool) -> None:
        with cheap_second_derivatives() if cheap else nullcontext():
            y = F.leaky_relu(F.conv2d(x, w, None, 1, kernel // 2, 1, groups), 0.2)
        (slope,) = torch.autograd.grad(y.square().sum(), x, create_graph=True)
        torch.autograd.grad(slope.square().sum(), w)

    return step


def compiled(machine: Machine) -> Outcome:
    """--compile: whether its comparison of gradients passes, in bf16 and in float32, and what it gains."""
    figures: dict[str, float] = {}
    for name in ("faces64", "article96") if machine.is_gpu else ():
        size, words, _ = PRESETS[name]
        for precision in ("bf16", "no"):
            try:
                training = machine.training(size, [*words.split(), "--compile"], precision)
            except UserError as error:
                return Outcome(False, f"{name} {precision}: {error}", figures)
            if precision == "bf16":
                figures[name] = machine.seconds_of(training.endless(1, first=1), 2, 15) * 1e3
    return Outcome(True if machine.is_gpu else None, str(figures) if figures else "needs a GPU", figures)
