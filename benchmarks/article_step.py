"""Compare our training step with the article's published training loop, on the article's networks.

    python benchmarks/article_step.py [--pairs 5] [--seconds 300] [--compile] [--json FILE]

Both sides run in alternation on the same images, so that a slow phase of the machine affects both. Each side runs in a
separate process: ours configures its process (threads, memory), theirs uses PyTorch's defaults. The last line is the
median over the pairs of their seconds divided by ours; the lines before it compare our throughput with the machine's
peak, measured in the same process. The methods differ in one point unless --mismatch generated is given: in the third
term of the loss the preset scores real images with wrong labels, as the article's text says, and the published loop
scores images generated for other labels, as its code does.
"""

from __future__ import annotations

import itertools
import json
import multiprocessing
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from published import SIZE, PublishedLoop, random_labels

import shards
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import exit_status
from shards.core.version import revision
from shards.dataset.image_shape import ImageShape
from shards.stream.batch import Batch
from trainer import config
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state

WIDTHS = (12, 20)  # hair and eyes as in the article's 32-entry labels


@dataclass(frozen=True)
class BenchmarkOptions:
    """Compare our training step with the article's published loop, on the article's networks."""

    pairs: int = option(5, "number of pairs of turns", minimum=1)
    seconds: float = option(300, "time budget: start no turn after this many seconds", above=0)
    batch: int = option(16, "images per step", minimum=1)
    mismatch: str = option("real", "third term of our discriminator loss", choices=("real", "generated"))
    mixed_precision: str = option(
        "auto", "precision of our side; theirs is float32", choices=("auto", "no", "bf16", "fp16")
    )
    compile: bool = option(False, "compile our networks; theirs are unchanged")
    json: Path | None = option(None, "also write the results to this file")


# ---------------------------------------------------------------- our side


def our_step(options: BenchmarkOptions, env: Distributed, images: Tensor, y: Tensor) -> Callable[[], None]:
    """Build one training step of preset article96, including the EMA update.

    Args:
        images: uint8 (B, 3, 96, 96), as the stream gives them.
        y: their labels (B, 32).
    """
    words = ["--preset", "article96", "--batch", str(options.batch), "--mismatch", options.mismatch]
    chosen = config.load([*words, "--compile", str(options.compile)])
    state = build_state(chosen, env, ImageShape.of(SIZE), WIDTHS, ("exclusive",) * len(WIDTHS))
    known = torch.ones(options.batch, len(WIDTHS))
    wrong_y = torch.cat([part.roll(1, 1) for part in y.split(list(WIDTHS), 1)], 1)
    numbers = itertools.count()

    def step() -> None:
        position = torch.arange(options.batch) + options.batch * next(numbers)
        has_wrong = torch.ones(options.batch)
        state.step(Batch(images, y, known, wrong_y, known, has_wrong, position, options.batch))

    return step


# ---------------------------------------------------------------- the measurement


def seconds_of(step: Callable[[], object], device: torch.device) -> float:
    """Return the seconds of one step, synchronized with the device."""
    _wait(device)
    began = time.perf_counter()
    step()
    _wait(device)
    return time.perf_counter() - began


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def operations_of(step: Callable[[], None]) -> int:
    """Return the floating-point operations of a step: convolutions and matrix products, forward and backward."""
    with torch.compiler.set_stance("force_eager"), FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops()


def limits_of(env: Distributed, batch: int) -> dict[str, float]:
    """Return the peak operations per second of this machine in the run's precision."""
    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(env.precision, torch.float32)
    images = torch.randn(batch, 64, SIZE, SIZE).to(env.device, dtype, memory_format=torch.channels_last)
    weight = torch.randn(64, 64, 3, 3).to(env.device, dtype, memory_format=torch.channels_last)
    square = torch.randn(2048, 2048).to(env.device, dtype)
    work: dict[str, tuple[int, Callable[[], object]]] = {
        "3x3 convolution of 64 channels": (
            2 * batch * SIZE**2 * weight.numel(),
            lambda: nn.functional.conv2d(images, weight, padding=1),
        ),
        "product of matrices of 2048": (2 * 2048**3, lambda: square @ square),
    }
    return {
        name: operations / min(seconds_of(run, env.device) for _ in range(12))
        for name, (operations, run) in work.items()
    }


def serve_ours(options: BenchmarkOptions, pipe: Connection) -> None:
    """Run our side's process: one step per message."""
    env = Distributed(precision=options.mixed_precision)
    images, y = make_batch(options.batch)
    step = our_step(options, env, images, y)
    limits = {name: rate / 1e9 for name, rate in limits_of(env, options.batch).items()}
    pipe.send({"gigaflop_a_step": operations_of(step) / 1e9, "gigaflops_at_best": limits})
    serve(step, env.device, env.describe(), pipe)


def serve_theirs(options: BenchmarkOptions, pipe: Connection) -> None:
    """Run the published side's process."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    images, y = make_batch(options.batch)
    loop, x, y = PublishedLoop(WIDTHS, device), (images.float() / 127.5 - 1).to(device), y.to(device)
    serve(lambda: loop.step(x, y), device, f"{device}, {torch.get_num_threads()} threads, float32", pipe)


def make_batch(batch: int) -> tuple[Tensor, Tensor]:
    """Return uint8 images (B, 3, 96, 96) and labels (B, 32), the same for both sides."""
    torch.manual_seed(0)
    return torch.randint(256, (batch, 3, SIZE, SIZE), dtype=torch.uint8), random_labels(batch, WIDTHS)


def serve(step: Callable[[], object], device: torch.device, machine: str, pipe: Connection) -> None:
    """Warm up, report it, then time one step per message until told to stop."""
    step()
    pipe.send(machine)
    while pipe.recv():
        pipe.send(seconds_of(step, device))


def measure(options: BenchmarkOptions) -> dict[str, Any]:
    """Run both sides in alternation.

    Returns:
        The figures, ready for JSON.
    """
    spawn = multiprocessing.get_context("spawn")
    sides: dict[str, Connection] = {}
    machine: dict[str, str] = {}
    arithmetic: dict[str, Any] = {}
    for name, target in (("ours", serve_ours), ("theirs", serve_theirs)):
        sides[name], end = spawn.Pipe()
        spawn.Process(target=target, args=(options, end), daemon=True).start()
        if name == "ours":
            arithmetic = sides[name].recv()
        machine[name] = sides[name].recv()
        print(f"{name}: article96, batch {options.batch}, on {machine[name]}; warmed up", flush=True)

    taken: dict[str, list[float]] = {name: [] for name in sides}
    began = time.monotonic()
    for pair in range(options.pairs):
        if pair and time.monotonic() - began > options.seconds:
            break
        for name, pipe in sides.items():
            pipe.send(True)
            taken[name].append(pipe.recv())
        print(f"  {pair + 1}: ours {taken['ours'][-1]:.2f} s, theirs {taken['theirs'][-1]:.2f} s", flush=True)
    for pipe in sides.values():
        pipe.send(False)
    speed = {name: options.batch / statistics.median(values) for name, values in taken.items()}
    arithmetic["gigaflops"] = arithmetic["gigaflop_a_step"] / statistics.median(taken["ours"])
    ratio = statistics.median(b / a for a, b in zip(taken["ours"], taken["theirs"], strict=True))
    return {
        "benchmark": "article_step",
        "ratio": ratio,
        "images_per_second": speed,
        "seconds": taken,
        "arithmetic": arithmetic,
        "batch": options.batch,
        "mismatch": options.mismatch,
        "compile": options.compile,
        "machine": machine,
        "torch": torch.__version__,
        "version": shards.__version__,
        "commit": revision(),
    }


def main(argv: Sequence[str]) -> None:
    """Measure, print, and write the results if requested."""
    options = cli.parse(BenchmarkOptions, argv, command="python benchmarks/article_step.py")
    figures = measure(options)
    for name, speed in figures["images_per_second"].items():
        print(f"{name}: {speed:.2f} images/s (median of {len(figures['seconds'][name])})")
    arithmetic: dict[str, Any] = figures["arithmetic"]
    for name, best in arithmetic["gigaflops_at_best"].items():
        reached = arithmetic["gigaflops"]
        print(f"ours: {reached:.0f} GFLOP/s, {reached / best:.0%} of the peak of a {name} on this machine ({best:.0f})")
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    print(f"ratio: {figures['ratio']:.2f}")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
