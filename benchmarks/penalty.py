"""Compare D's step with a gradient penalty with the same step on torch's own second derivatives, per preset.

    python benchmarks/penalty.py [--presets faces64,r3gan32] [--pairs 5] [--json FILE]

Both sides run in alternation on the same networks; only `trainer.networks.second_derivatives` is switched off in
theirs. On a CPU they run in one thread, and the time is that of the processor, which other processes disturb less than
the time on the clock. The last lines are the medians over the pairs of their seconds divided by ours.
"""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

# When run as a script, Python searches the script's directory for modules, not the repository.
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from step import CASES, KINDS, WIDTHS, case, explained, spawn, synthetic, wait

import shards
import trainer.step
from shards.core import cli
from shards.core.cli import option
from shards.core.errors import exit_status
from shards.core.version import revision
from shards.dataset.image_shape import ImageShape
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.step import discriminator_step

PENALISED = tuple(name for name in CASES if case(name)[0].method.gamma)
SIDES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "ours": nullcontext,
    "theirs": lambda: patch.object(trainer.step, "cheap_second_derivatives", lambda when: nullcontext()),
}


@dataclass(frozen=True)
class PenaltyOptions:
    """Compare D's penalty step with the same step on torch's own second derivatives."""

    presets: tuple[str, ...] = option(("faces64", "r3gan32"), "presets to measure", choices=PENALISED)
    pairs: int = option(5, "number of pairs of steps", minimum=1)
    seconds: float = option(150, "time budget per preset: start no pair after this many seconds", above=0)
    mixed_precision: str = option("auto", "precision of the steps", choices=("auto", "no", "bf16", "fp16"))
    json: Path | None = option(None, "also write the results to this file")


def serve(name: str, precision: str, pipe: Connection) -> None:
    """Run a process that takes D's penalty step in the way each message names, and replies with its seconds."""
    env = Distributed(precision=precision, threads=1)
    config, size = case(name)
    state = build_state(config, env, ImageShape.of(size), WIDTHS, KINDS)
    parts = synthetic(config, size).to(env.device, state.dtype).split(1)
    while side := pipe.recv():
        with SIDES[side]():
            began = seconds(env.device)
            discriminator_step(state.d, state.g, parts, state.batch_size, state.method, env, penalise=True)
            pipe.send(seconds(env.device) - began)


def seconds(device: torch.device) -> float:
    """Return the processor time so far, or the time on the clock once a GPU has finished its work."""
    wait(device)
    return time.process_time() if device.type == "cpu" else time.perf_counter()


def measure(name: str, options: PenaltyOptions) -> dict[str, Any]:
    """Run both sides of a case in alternation.

    Returns:
        The figures, ready for JSON.
    """
    pipe = spawn(serve, name, options.mixed_precision)

    def step(side: str) -> float:
        pipe.send(side)
        return pipe.recv()

    for side in SIDES:
        step(side)
    taken: dict[str, list[float]] = {side: [] for side in SIDES}
    began = time.monotonic()
    for pair in range(options.pairs):
        if pair and time.monotonic() - began > options.seconds:
            break
        for side in list(SIDES)[:: -1 if pair % 2 else 1]:
            taken[side].append(step(side))
    pipe.send("")
    ratios = [theirs / ours for ours, theirs in zip(taken["ours"], taken["theirs"], strict=True)]
    return {"ratio": statistics.median(ratios), "ratios": ratios, "seconds": taken}


def describe(name: str, figures: dict[str, Any]) -> str:
    """Return a line with the median seconds of both sides."""
    medians = (f"{side} {statistics.median(taken):.3f} s" for side, taken in figures["seconds"].items())
    return f"{name}, D's penalty step: {', '.join(medians)} (medians of {len(figures['ratios'])})"


def main(argv: Sequence[str]) -> None:
    """Measure, print, and write the results if requested."""
    options = cli.parse(PenaltyOptions, argv, command="python benchmarks/penalty.py")
    figures: dict[str, Any] = {"benchmark": "penalty", "presets": {}, "torch": torch.__version__}
    figures |= {"version": shards.__version__, "commit": revision()}
    for name in options.presets:
        with explained(name):
            figures["presets"][name] = measure(name, options)
        print(describe(name, figures["presets"][name]), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    for name, found in figures["presets"].items():
        print(f"ratio: {found['ratio']:.2f} ({name})")


if __name__ == "__main__":
    sys.exit(exit_status(lambda: main(sys.argv[1:])))
