"""What two processes cost against one of twice the threads, and four micro-batches against one, at one global batch.

    python benchmarks/scaling.py [--preset faces32] [--batch 128] [--pairs 5] [--json FILE]

All sides are started by `accelerate launch`, the way docs/training.md says, live side by side, and train in turns on
pictures lying ready; one that has no turn waits in a read. A turn goes from one penalty to the next. The last lines are
the medians, over the rounds, of the plain side's seconds divided by the other's.
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

# Run as a file, Python looks for modules beside the file and not in the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from step import CASES, WIDTHS, cadence, synthetic, wait

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.version import revision
from shards.stream.batch import Batch
from trainer import config as configuration
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.process.exit import end
from trainer.setup import build_state

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 120  # for a side to import, build and join; then it is taken for lost


@dataclass(frozen=True)
class Side:
    """How a job carries the global batch."""

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
    """Measure what processes and micro-batches cost."""

    preset: str = option("faces32", "what to train", choices=tuple(CASES))
    batch: int | None = option(None, "images a step; the preset's if not given", minimum=4)
    pairs: int = option(5, "turns of each side", minimum=1)
    steps: int = option(16, "steps of a turn, rounded up to whole cadences of the penalty", minimum=1)
    mixed_precision: str = option("auto", "of all sides", choices=("auto", "no", "bf16", "fp16"))
    json: Path | None = option(None, "write the figures to this file too")
    side: str | None = option(None, "internal: be this side", choices=tuple(SIDES))
    address: str | None = option(None, "internal: of the socket on which to be told")


def chosen(asked: BenchmarkOptions, side: Side) -> tuple[Config, int]:
    """The options of a side, and the pictures' size."""
    size, words = CASES[asked.preset]
    batch = ["--batch", str(asked.batch)] if asked.batch else []
    return configuration.load([*words.split(), *batch, "--accumulate", str(side.accumulate)]), size


# ---------------------------------------------------------------- one side


def share_of(batch: Batch, rank: int, world: int) -> Batch:
    """This rank's rows of a global batch."""
    shares = {name: v.chunk(world)[rank] for name, v in batch._asdict().items() if isinstance(v, torch.Tensor)}
    return batch._replace(**shares)


def turn_of(asked: BenchmarkOptions, side: Side, env: Distributed) -> Callable[[], float]:
    """A turn of a side in this process, which says how many seconds it took."""
    config, size = chosen(asked, side)
    state = build_state(config, env, size, WIDTHS)
    batch = share_of(synthetic(config, size), env.rank, env.world_size)
    steps = -(-asked.steps // cadence(config)) * cadence(config)

    def turn() -> float:
        began = time.perf_counter()
        for _ in range(steps):
            state.step(batch._replace(positions=batch.positions + state.images_seen))
        wait(env.device)
        return time.perf_counter() - began

    return turn


def serve(asked: BenchmarkOptions, name: str, address: str) -> None:
    """A turn of all processes of a side whenever its first one is told to."""
    side = SIDES[name]
    with Distributed("cpu", asked.mixed_precision, side.threads) as env:
        turn = turn_of(asked, side, env)
        turn()  # warm up
        pipe = env.on_rank0(lambda: Client(address))
        env.on_rank0(lambda: pipe and pipe.send(env.describe()))
        while env.broadcast(pipe.recv() if pipe else None):
            seconds = turn()
            if pipe:
                pipe.send(seconds)


# ---------------------------------------------------------------- all of them


@contextmanager
def started(asked: BenchmarkOptions, name: str, folder: Path) -> Iterator[Connection]:
    """A side's job, ready and waiting: the pipe to its first process."""
    side, address = SIDES[name], str(folder / f"{list(SIDES).index(name)}.socket")
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(ROOT / "accelerate_config.yaml")]
    if side.processes > 1:
        launch += ["--multi_gpu", "--num_processes", str(side.processes), "--main_process_port", str(free_port())]
    own = ["--preset", asked.preset, "--steps", str(asked.steps), "--mixed-precision", asked.mixed_precision]
    own += ["--batch", str(asked.batch)] if asked.batch else []
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
    """A TCP port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def measure(asked: BenchmarkOptions) -> dict[str, Any]:
    """Run all sides by turns, each round in another order.

    Returns:
        The figures, ready for JSON.
    """
    seconds: dict[str, list[float]] = {name: [] for name in SIDES}
    with tempfile.TemporaryDirectory() as folder, ExitStack() as jobs:
        pipes = {name: jobs.enter_context(started(asked, name, Path(folder))) for name in SIDES}
        for number in range(asked.pairs):
            for name, pipe in list(pipes.items())[:: -1 if number % 2 else 1]:
                pipe.send(True)
                seconds[name].append(pipe.recv())
    config, size = chosen(asked, SIDES[PLAIN])
    images = -(-asked.steps // cadence(config)) * cadence(config) * config.data.batch
    return {
        "benchmark": "scaling",
        "preset": asked.preset,
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
    """Measure, print, and write the figures where asked; or be one of the sides."""
    asked = cli.parse(BenchmarkOptions, argv, command="python benchmarks/scaling.py")
    if asked.side is not None and asked.address is not None:
        return serve(asked, asked.side, asked.address)
    figures = measure(asked)
    for name, speed in figures["images_per_second"].items():
        print(f"{name}: {speed:.1f} images/s (median of {len(figures['seconds'][name])} turns)")
    if asked.json is not None:
        asked.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, ratio in figures["ratios"].items():
        print(f"ratio: {ratio:.3f} ({name}, over {PLAIN})")


if __name__ == "__main__":
    end(lambda: main(sys.argv[1:]))
