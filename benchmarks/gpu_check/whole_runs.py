"""The real command: a run, one that was resumed, fp16, a process group of one; and how quickly batches are read."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from gpu_check.check import Outcome
from gpu_check.machine import ROOT, Machine
from shards.dataset.dataset import Dataset
from shards.examples.shapes import write_folder
from shards.packing.pack import Pack, pack
from shards.stream.loader import batches
from shards.stream.stream import Stream

OPTIONS = (
    "--preset smoke --batch 16 --log-every 64 --grid-every 256 --log-with none --workers 1 --threads 1 --deterministic"
)


def whole_runs(machine: Machine) -> Outcome:
    """Runs end with status 0, and a resumed one has the bits of one that was not interrupted."""
    total = 512 if machine.is_gpu else 64
    with tempfile.TemporaryDirectory() as folder:
        runs = Path(folder)
        whole, seconds = _train(machine, runs / "whole", total, "--checkpoint-every", str(total // 2))
        _train(machine, runs / "parts", total // 2)
        second, _ = _train(machine, runs / "parts", total)
        figures: dict[str, object] = {"run": whole.returncode, "resumed": second.returncode, "seconds": seconds}
        if machine.is_gpu:
            figures["fp16"] = _train(machine, runs / "fp16", total, "--mixed-precision", "fp16")[0].returncode
            launcher = ("-m", "torch.distributed.run", "--nproc_per_node", "1")
            figures["process group of one"] = _train(machine, runs / "one", total // 4, launcher=launcher)[0].returncode
        failed = [name for name, status in figures.items() if name != "seconds" and status]
        if failed:
            return Outcome(False, f"failed: {', '.join(failed)}; {whole.stderr[-300:]}{second.stderr[-300:]}", figures)
        a, b = _newest(runs / "whole"), _newest(runs / "parts")
    different = [name for name in a if not np.array_equal(a[name], b[name])]
    says = f"{seconds:.0f} s a run, all exit 0; resumed: {len(different)} of {len(a)} tensors differ"
    return Outcome(not different and a.keys() == b.keys(), says, figures | {"different": different})


def _train(
    machine: Machine, run: Path, total: int, *words: str, launcher: tuple[str, ...] = ()
) -> tuple[subprocess.CompletedProcess[str], float]:
    """Run the trainer; this process's search path, with its stand-ins, is the child's too."""
    command = [sys.executable, *launcher, str(ROOT / "trainer" / "main.py"), *OPTIONS.split()]
    command += ["--device", machine.device.type, "--total-images", str(total), "--run", str(run), *words]
    paths = [path for path in sys.path if "stand_ins" in path]
    start = time.monotonic()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])},
    )
    return done, time.monotonic() - start


def _newest(run: Path) -> dict[str, np.ndarray]:
    newest = max(path for path in (run / "checkpoints").iterdir() if path.name.isdigit())
    return {f"{p.stem}/{k}": v for p in sorted(newest.glob("*.safetensors")) for k, v in load_file(p).items()}


def feed(machine: Machine) -> Outcome:
    """Images/s from shards into pinned memory, by number of workers: fewer than the steps take would be the limit."""
    figures = {}
    with tempfile.TemporaryDirectory() as folder:
        dataset = _dataset(Path(folder), 2048 if machine.is_gpu else 64)
        stream = Stream(dataset, 256 if machine.is_gpu else 16, 0)
        for workers in (1, 4, 8) if machine.is_gpu else (1,):
            incoming = batches(stream, 0, workers, pin_memory=machine.is_gpu)
            seconds = machine.seconds_of(lambda: next(incoming), 3, 20)  # noqa: B023 - called at once
            figures[workers] = stream.batch / seconds
            incoming.close()  # type: ignore[attr-defined] - a generator
    return Outcome(None, ", ".join(f"{n} workers {rate:,.0f}/s" for n, rate in figures.items()), {"32 px": figures})


def _dataset(folder: Path, count: int) -> Dataset:
    write_folder(folder / "source", count, 32)
    with contextlib.redirect_stdout(None):
        pack(Pack(src=folder / "source", out=folder / "data", size=32, workers=1))
    return Dataset.open(folder / "data")
