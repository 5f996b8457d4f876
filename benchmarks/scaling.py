"""Compare two processes with one of twice the threads, and four micro-batches with one, at the same global batch.

    python benchmarks/scaling.py [--preset faces32] [--batch 128] [--pairs 5] [--json FILE]

All sides are started with `accelerate launch`, as docs/training.md says, run at the same time, and train in alternation
on images in memory; an idle side blocks in a read. A turn goes from one penalty to the next. The last lines are the
medians, over the rounds, of the plain side's seconds divided by the other's.
"""

from __future__ import annotations

import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path
from typing import Any

import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from step import CASES, KINDS, WIDTHS, cadence, synthetic, wait

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.version import revision
from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer import config as configuration
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.process.exit import end

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120  # for a side to import, build and join; then it is taken for lost


@dataclass(frozen=True)
class Side:
    """How a job divides the global batch."""

    processes: int = 1
    threads: int = 1
    accumulate: int = 1


PLAIN = "1 process of 2 threads"
SIDES = {
    PLAIN: Side(threads=2),
    "2 processes of 1 thread": Side(processes=2),
    "4 micro-batches in 1 process": Side(threads=2, accumulate=4),
}


@dataclass(frozen=True)
class BenchmarkOptions:
    """Measure the cost of processes and micro-batches."""

    preset: str = option("faces32", "preset to train", choices=tuple(CASES))
    batch: int | None = option(None, "images per step (default: the preset's)", minimum=4)
    pairs: int = option(5, "number of turns of each side", minimum=1)
    steps: int = option(16, "steps per turn, rounded up to a multiple of the penalty's interval", minimum=1)
    mixed_precision: str = option("auto", "precision of all sides", choices=("auto", "no", "bf16", "fp16"))
    json: Path | None = option(None, "also write the results to this file")
    side: str | None = option(None, "internal: run this side", choices=tuple(SIDES))
    address: str | None = option(None, "internal: address of the control socket")


def chosen(options: BenchmarkOptions, side: Side) -> tuple[Config, int]:
    """Return the options of a side, and the image size."""
    size, words = CASES[options.preset]
    batch = ["--batch", str(options.batch)] if options.batch else []
    return configuration.load([*words.split(), *batch, "--accumulate", str(side.accumulate)]), size


# ---------------------------------------------------------------- one side


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    """Return this rank's rows of a global batch."""
    shares = {name: v.chunk(world)[rank] for name, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
    return batch._replace(**shares)


def turn_of(options: BenchmarkOptions, side: Side, env: Distributed) -> Callable[[], float]:
    """Run a turn of a side in this process and return its seconds."""
    config, size = chosen(options, side)
    state = build_state(config, env, ImageShape.of(size), WIDTHS, KINDS)
    batch = share_of(synthetic(config, size), env.rank, env.world_size)
    steps = -(-options.steps // cadence(config)) * cadence(config)

    def turn() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            state.step(batch._replace(positions=batch.positions + state.images_seen))
        wait(env.device)
        return time.perf_counter() - began

    return turn


def serve(options: BenchmarkOptions, name: str, address: str) -> None:
    """Run a turn in all processes of a side whenever the first one is told to."""
    side = SIDES[name]
    with Distributed("cpu", options.mixed_precision, side.threads) as env:
        turn = turn_of(options, side, env)
        turn()  # warm up
        pipe = env.on_rank0(lambda: Client(address))
        env.on_rank0(lambda: pipe and pipe.send(env.describe()))
        while env.broadcast(pipe.recv() if pipe else None):
            seconds = turn()
            if pipe:
                pipe.send(seconds)


# ---------------------------------------------------------------- all of them


@contextmanager
def started(options: BenchmarkOptions, name: str, folder: Path) -> Iterator[Connection]:
    """Start a side's job and yield the pipe to its first process."""
    side, address = SIDES[name], str(folder / f"{list(SIDES).index(name)}.socket")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml")]
    if side.processes > 1:
        launch += ["--multi_gpu", "--num_processes", str(side.processes), "--main_process_port", str(free_port())]
    own = ["--preset", options.preset, "--steps", str(options.steps), "--mixed-precision", options.mixed_precision]
    own += ["--batch", str(options.batch)] if options.batch else []
    command = [sys.executable, *launch, str(Path(__file__).resolve()), *own, "--side", name, "--address", address]
    with Listener(address) as listener:
        listener._listener._socket.settimeout(START_SECONDS)  # type: ignore[attr-defined] - it offers no other way
        job = subprocess.Popen(command, env={**os.environ, "ACCELERATE_USE_CPU": "true"})
        try:
            with listener.accept() as pipe:
                print(f"{name}: {pipe.recv()}; warmed up", flush=True)
                yield pipe
                pipe.send(False)
            job.wait(START_SECONDS)
        finally:
            job.terminate()


def free_port() -> int:
    """Return a free TCP port of this machine."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(options: BenchmarkOptions) -> dict[str, Any]:
    """Run all sides in alternation, in a different order each round.

    Returns:
        The figures, ready for JSON.
    """
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as jobs:
        pipes = {name: jobs.enter_context(started(options, name, Path(folder))) for name in SIDES}
        for number in range(options.pairs):
            for name, pipe in list(pipes.items())[:: -1 if number % 2 else 1]:
                pipe.send(True)
                seconds[name].append(pipe.recv())
    config, size = chosen(options, SIDES[PLAIN])
    images = -(-options.steps // cadence(config)) * cadence(config) * config.data.batch
    return {
        "benchmark": "scaling",
        "preset": options.preset,
        "size": size,
        "batch": config.data.batch,
        "images_per_second": {name: images / statistics.median(taken) for name, taken in seconds.items()},
        "ratios": {
            name: statistics.median(a / b for a, b in zip(seconds[PLAIN], taken, strict=True))
            for name, taken in seconds.items()
            if name != PLAIN
        },
        "seconds": seconds,
        "torch": torch.__version__,
        "version": shards.__version__,
        "commit": revision(),
    }


def main(argv: Sequence[str]) -> None:
    """Measure, print, and write the results if requested; or run one of the sides."""
    options = cli.parse(BenchmarkOptions, argv, command="python benchmarks/scaling.py")
    if options.side is not None and options.address is not None:
        return serve(options, options.side, options.address)
    figures = measure(options)
    for name, speed in figures["images_per_second"].items():
        print(f"{name}: {speed:.1f} images/s (median of {len(figures['seconds'][name])} turns)")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, ratio in figures["ratios"].items():
        print(f"ratio: {ratio:.3f} ({name}, over {PLAIN})")


if __name__ == "__main__":
    end(lambda: main(sys.argv[1:]))
