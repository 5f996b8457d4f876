"""Is it right on a GPU: numbers, gradients, no waiting, the same bits again, broken steps, copies while it trains."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch

from gpu_check.check import Outcome
from gpu_check.machine import Machine, Training, backends, distance
from shards.core import rng
from shards.stream.batch import Batch
from trainer.noise import normal, uniform
from trainer.run.async_checkpoint import Snapshot


def place(machine: Machine) -> Outcome:
    """Name what the figures were measured on."""
    figures = {"torch": torch.__version__, "cores": os.cpu_count(), "device": "cpu"}
    if machine.is_gpu:
        card = torch.cuda.get_device_properties(machine.device)
        figures |= {"device": card.name, "gigabytes": card.total_memory / 1e9, "cuda": torch.version.cuda}
        figures |= {"cudnn": torch.backends.cudnn.version(), "capability": torch.cuda.get_device_capability()}
    return Outcome(None, ", ".join(f"{name} {value}" for name, value in figures.items()), figures)


def keyed_numbers(machine: Machine) -> Outcome:
    """Hashes and uniform numbers are the same bits on both; float32 normal numbers may differ in a few last digits."""
    key = rng.key(3, "gpu-check")
    positions = torch.arange(2**20 if machine.is_gpu else 2**10) * 7919 + 2**40
    there = positions.to(machine.device)
    hashes = torch.equal(rng.bits(key, positions), rng.bits(key, there).cpu())
    few = len(positions) // 16
    even = torch.equal(uniform(3, "x", positions[:few], 64), uniform(3, "x", there[:few], 64).cpu())
    ours, theirs = normal(3, "x", positions[:few], 64), normal(3, "x", there[:few], 64).cpu()
    different = int((ours != theirs).sum())
    passed = hashes and even and different < 50 and float((ours - theirs).abs().max()) < 1e-6
    says = f"hashes equal: {hashes}, uniform equal: {even}, normal: {different} of {ours.numel():,} differ (< 50)"
    return Outcome(passed, says, {"hashes": hashes, "uniform": even, "normal_different": different})


def parity(machine: Machine) -> Outcome:
    """Four steps on the CPU and on the GPU: 1e-8 in float64, 2e-3 in float32; with TF32 for the record."""
    figures: dict[str, dict[str, float]] = {}
    for name in machine.networks:
        figures[name] = {
            "float64": _cpu_against_gpu(machine, name, "float64"),
            "float32": _cpu_against_gpu(machine, name, "float32"),
            "TF32": _cpu_against_gpu(machine, name, "float32", tf32=True),
        }
    passed = all(found["float64"] < 1e-8 and found["float32"] < 2e-3 for found in figures.values())
    lines = (f"{name} " + "/".join(f"{value:.0e}" for value in found.values()) for name, found in figures.items())
    return Outcome(passed, "float64/float32/TF32: " + ", ".join(lines), figures)


def _cpu_against_gpu(machine: Machine, name: str, dtype: str, tf32: bool = False) -> float:
    both = []
    for device in ("cpu", machine.device.type):
        training = machine.network(name, "no", "--dtype", dtype, device=device)
        with backends(tf32=tf32):
            training.run(4)
        both.append(training.weights())
    return distance(*both)


def no_waiting(machine: Machine) -> Outcome:
    """No step waits for the GPU: torch raises where one would."""
    for name in machine.networks:
        for precision in machine.half_precisions:
            training = machine.network(name, precision)
            training.run(5)  # loads kernels, makes the optimizers' moments
            machine.wait()
            with _raise_on_wait(machine):
                training.run(5, 5)
    return Outcome(True, f"{len(machine.networks)} networks in {' and '.join(machine.half_precisions)}")


@contextmanager
def _raise_on_wait(machine: Machine) -> Iterator[None]:
    if not machine.is_gpu:
        yield
        return
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def repeats(machine: Machine) -> Outcome:
    """The same steps from the same weights: equal bits with deterministic algorithms; without, what differs is listed.

    ADA's warp has no deterministic gradient on GPUs, so the network that has it is listed only.
    """
    different: dict[str, list[str]] = {"default": [], "deterministic": []}
    for deterministic in (False, True):
        for name in machine.networks:
            runs = []
            for _ in range(2):
                training = machine.network(name, "bf16")
                with backends(deterministic=deterministic), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of the operations without a deterministic form
                    training.run(6)
                runs.append(training.weights())
            if distance(*runs):
                different["deterministic" if deterministic else "default"].append(f"{name} {distance(*runs):.0e}")
    unexpected = [entry for entry in different["deterministic"] if not entry.startswith("residual ")]
    lists = (f"{mode}: {', '.join(names) or 'none'}" for mode, names in different.items())
    return Outcome(not unexpected, "different bits by " + "; by ".join(lists), dict(different))


def broken_step(machine: Machine) -> Outcome:
    """A NaN among the pixels changes neither weights nor moments of D, and is counted once."""
    for precision in machine.half_precisions:
        training = machine.network("residual", precision)
        training.run(4)
        if fault := _after_a_nan(training):
            return Outcome(False, f"{precision}: {fault}")
    return Outcome(True, " and ".join(machine.half_precisions))


def _after_a_nan(training: Training) -> str:
    """Take a step with a NaN; return what is wrong with the outcome."""
    state = training.state
    state.guard.flush()
    skipped = state.guard.skipped
    files = ("discriminator", "optimizer_d")
    before = {(file, name): t.clone() for file in files for name, t in state.tensors()[file].items()}
    original = Batch.to

    def spoiled(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
        moved = original(batch, device, dtype)
        moved.images[0, 0, 0, 0] = float("nan")
        return moved

    with mock.patch.object(Batch, "to", spoiled):
        training.run(1, 5)
    state.guard.flush()
    after = state.tensors()
    changed = [f"{file}/{name}" for (file, name), t in before.items() if not torch.equal(t, after[file][name])]
    if changed:
        return f"{len(changed)} tensors changed, such as {changed[0]}"
    if state.guard.skipped != skipped + 1:
        return f"{state.guard.skipped - skipped} steps were counted"
    return "" if all(t.isfinite().all() for held in after.values() for t in held.values()) else "not all is finite"


def saving(machine: Machine) -> Outcome:
    """Copies taken while steps go on are of the moment when they were taken; how long the steps wait for them."""
    training = machine.training(96, ["--preset", "article96"]) if machine.is_gpu else machine.network("residual")
    training.run(3)
    snapshot, times, size = Snapshot(), [], 0
    for _ in range(3):
        machine.wait()
        exact = {(f, n): t.clone() for f, held in training.state.tensors().items() for n, t in held.items()}
        start = time.perf_counter()
        snapshot.take(training.state.tensors())
        taken = time.perf_counter() - start
        training.run(3, 5)
        copies = snapshot.get()
        times.append({"take": taken, "with three steps": time.perf_counter() - start})
        size = sum(t.numel() * t.element_size() for t in exact.values())
        wrong = [f"{f}/{n}" for (f, n), t in exact.items() if not torch.equal(t.cpu(), copies[f][n])]
        if wrong:
            return Outcome(False, f"{len(wrong)} copies are of another moment, such as {wrong[0]}")
    says = (
        f"{size / 1e6:,.0f} MB; the first takes {times[0]['take'] * 1e3:.0f} ms, the third {times[2]['take'] * 1e3:.0f}"
    )
    return Outcome(True, f"{says} (with three steps {times[2]['with three steps'] * 1e3:.0f})", {"times": times})
