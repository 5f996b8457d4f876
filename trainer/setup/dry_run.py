"""Print what would be trained, without a run directory (--dry-run)."""

from __future__ import annotations

import time
from datetime import datetime, timedelta

from torch import nn

from shards.core.version import version_line
from trainer.config import Config
from trainer.schedules.timekeeper import PROBE_STEPS
from trainer.setup import missing_labels
from trainer.setup.build import TrainingSetup, describe_order, incoming_batches
from trainer.setup.run_entry import try_initial_weights

_PROBE_SECONDS = 5.0  # of steps that are measured


def print_plan(built: TrainingSetup, asked: Config) -> None:
    """Print the resolved options, the data, the networks, what they need, and with --minutes what fits into them.

    Args:
        built: the run.
        asked: its options as given.
    """
    from trainer.preflight import memory  # imports half of torch's compiler, which takes a second

    initial = try_initial_weights(built)
    needed = built.env.on_rank0(lambda: memory.describe(built.state, built.env, asked))
    built.env.print(_description(built, needed or "", initial))  # rank 0 prints
    if asked.schedule.minutes is not None:
        built.env.print(_what_fits(built, 60 * asked.schedule.minutes))


def _description(built: TrainingSetup, memory: str, initial: str) -> str:
    """Return the lines about a run.

    Args:
        memory: a line on what it needs.
        initial: a line on the weights it starts from; "" if they are fresh.
    """
    dataset, state = built.dataset, built.state
    options = [f"  {name.replace('_', '-')}: {value}" for name, value in built.config.to_dict().items()]
    return "\n".join(
        [
            "options:",
            *options,
            f"data: {len(dataset):,} images of {dataset.shape.describe()}, "
            f"{dataset.schema.width} label entries in {len(dataset.schema.attributes)} attributes",
            describe_order(built.stream),
            *([hint] if (hint := missing_labels.hint(built.config, dataset)) else []),
            built.decoded_cache.describe(),
            f"networks: G {_size(state.g.module)}, D {_size(state.d.module)}",
            *([initial] if initial else []),
            f"machine: {built.env.describe()}",
            memory,
            f"version: {version_line()}; nothing was written",
        ]
    )


def _what_fits(built: TrainingSetup, seconds: float) -> str:
    """Return how many images fit into ``seconds``; the same steps on all ranks measure the speed."""
    env, state = built.env, built.state
    since = elapsed = 0.0
    steps = 0
    for number, batch in enumerate(incoming_batches(built, 0)):
        state.step(batch)
        env.synchronize()
        if number == 0:  # it allocates, and is not measured
            since = time.monotonic()
            continue
        steps, elapsed = number, time.monotonic() - since
        if env.broadcast(steps >= PROBE_STEPS and elapsed >= _PROBE_SECONDS):
            break
    speed = steps * state.batch_size / elapsed
    compiled = ", more when compiled" if built.config.machine.compile else ""
    return (
        f"time: {speed:,.1f} images per second in {steps} steps; about {speed * seconds:,.0f} images fit "
        f"into --minutes {seconds / 60:g}{compiled}; a run started now "
        f"would end at {datetime.now().astimezone() + timedelta(seconds=seconds):%Y-%m-%d %H:%M %Z}"
    )


def _size(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,} parameters"
