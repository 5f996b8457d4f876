"""Train one run on this rank: build it, enter its directory, and let the loop run."""

from __future__ import annotations

import contextlib
import time

from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.evaluation.periodic import PeriodicEvaluator
from trainer.loop import Trainer
from trainer.run.async_checkpoint import AsyncCheckpointer
from trainer.schedules.time_plan import UNPLANNED
from trainer.schedules.timekeeper import Timekeeper
from trainer.setup import dry_run, missing_labels
from trainer.setup.build import TrainingSetup, build, describe_order, incoming_batches, keep_decoded
from trainer.setup.run_entry import enter_run
from trainer.tracking.monitor import Monitor
from trainer.tracking.restore_outputs import ResumedRun


def train(config: Config) -> None:
    """Train on this process's part of each batch; every process of the job calls this.

    Raises:
        UserError: an option cannot be met.
        Failure: the run had to stop early (non-finite losses, a full disk).
    """
    started = time.monotonic()
    machine = config.machine
    precision = "no" if machine.dtype == "float64" else machine.mixed_precision
    env = Distributed(machine.device, precision, machine.threads, machine.timeout, machine.deterministic)
    with contextlib.ExitStack() as exits:
        exits.enter_context(env)
        with env.coordinate_errors():  # so that other ranks hear of an error before this one closes what it opened
            built = build(config, env, exits)
            if config.dry_run:
                dry_run.print_plan(built, config)
            elif trainer := _enter(built, exits, started):
                trainer.fit()


def _enter(built: TrainingSetup, exits: contextlib.ExitStack, started: float) -> Trainer | None:
    """Enter the run directory and return the loop, which starts or resumes; None if the run is complete.

    Args:
        exits: closes what must be closed when the run ends.
        started: the clock when the process began, from which --minutes count.
    """
    config, env, state = built.config, built.env, built.state
    evaluator = None
    if config.evaluation.evaluate_every is not None:
        noise_size = config.network.noise_size
        evaluator = PeriodicEvaluator(
            config.evaluation, built.dataset, noise_size=noise_size, seed=config.seed, env=env
        )
    saved = enter_run(built, exits)
    if saved is not None:
        ended = config.replace(total_images=state.total_images)
        resumed = ResumedRun(built.run, ended, built.dataset, saved, state.ema.module, env.print)
        env.on_rank0(resumed.restore_outputs)
    if state.images_seen >= state.total_images:
        env.print(_complete_message(built))
        return None
    env.print(_start_message(built, "training from" if saved is None else "resuming at"))
    env.print(keep_decoded(built))
    if saved is None and (hint := missing_labels.hint(config, built.dataset)):
        env.print(hint)
    monitor = env.on_rank0(
        lambda: exits.enter_context(
            Monitor(built.run, config, built.dataset, images_seen=state.images_seen, device=env.device)
        )
    )
    saver = exits.enter_context(AsyncCheckpointer(built.run, config.evaluation.keep, env.print))
    incoming = incoming_batches(built, state.images_seen)
    if monitor is not None:
        monitor.set_total(state.total_images if state.total_images != UNPLANNED else None)
    timekeeper = None
    if state.plan is not None and config.schedule.minutes is not None:
        timekeeper = Timekeeper(60 * config.schedule.minutes, state.plan, state.images_seen, started, time.monotonic)
    return Trainer(config, env, state, incoming, saver, monitor, evaluator, len(built.dataset), timekeeper)


def _complete_message(built: TrainingSetup) -> str:
    seen, minutes = built.state.images_seen, built.config.schedule.minutes
    longer = f"--total-images {2 * seen}" if minutes is None else f"--minutes {2 * minutes:g}"
    return (
        f"{built.run.path} is complete: {seen:,} images seen; continue it with {longer}, or start another with "
        "--run NAME"
    )


def _start_message(built: TrainingSetup, verb: str) -> str:
    state, minutes = built.state, built.config.schedule.minutes
    planned = state.total_images != UNPLANNED
    until = f"{state.total_images:,} images" if planned else f"what --minutes {minutes:g} allows"
    order = describe_order(built.stream)
    return f"{verb} {state.images_seen:,} of {until} on {built.env.describe()}; {order}"
