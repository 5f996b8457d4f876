"""Build the parts, iterate, fire what is due.

The clock is the number of images seen. Something with a cadence is due when a step carries the clock across a
multiple of it, so a resumed run does the same things at the same moments as one that never stopped.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from shards.core import atomic_io
from shards.core.errors import Failure, UserError
from shards.core.version import version_line
from shards.dataset.dataset import Dataset
from shards.stream import sampling
from shards.stream.batch import Batch
from shards.stream.loader import batches
from shards.stream.stream import Stream
from trainer import metric_names
from trainer.batch_diversity import with_ratio
from trainer.config import Config
from trainer.distributed.process_group import Distributed
from trainer.evaluation.periodic import PeriodicEvaluator
from trainer.label_scaling import loudness
from trainer.models import architecture_of
from trainer.process import signals
from trainer.run.async_checkpoint import Saver
from trainer.run.checkpoint import Best, Saved, find
from trainer.run.directory import RunDirectory
from trainer.state import TrainingState
from trainer.tracking import trackers
from trainer.tracking.monitor import Seen


def train(config: Config) -> None:
    """Train as configured, on this process's share; the same call on every process of the job.

    Raises:
        UserError: something that was asked for cannot be done.
        Failure: the run had to stop early (non-finite losses, a full disk).
    """
    precision = "no" if config.dtype == "float64" else config.mixed_precision
    env = Distributed(config.device, precision, config.threads, config.timeout)
    with contextlib.ExitStack() as exits:
        exits.enter_context(env)
        with env.coordinate_errors():  # before what is entered below ends, which may take a while
            _train(config, env, exits)


def _train(config: Config, env: Distributed, exits: contextlib.ExitStack) -> None:
    dataset = env.on_all_ranks(lambda: _open_dataset(config, env, exits))
    run = RunDirectory(config.run_directory)
    config = config.replace(mixed_precision=env.precision, order=_order_of(config, dataset, run, env))
    stream = env.on_all_ranks(lambda: _stream(config, dataset, env))
    state = env.on_all_ranks(lambda: _build(config, dataset, env))
    if config.dry_run:
        return _describe(config, stream, state, env)

    evaluator = None
    if config.evaluation.evaluate_every is not None:
        evaluator = PeriodicEvaluator(
            config.evaluation, dataset, noise_size=config.network.noise_size, seed=config.seed, env=env
        )
    entered = env.on_rank0(lambda: _enter_run(run, config, dataset, exits))
    saved, weights = env.broadcast(entered or (None, None))
    if saved is not None:
        env.on_all_ranks(lambda: state.load(saved))
        env.resume_hint = _way_on(state.images_seen)
    elif weights is not None:
        env.on_all_ranks(lambda: _start_from(state, weights, env))
    if state.images_seen >= config.total_images:
        return env.print(
            f"{run.path} has seen its {config.total_images:,} images; "
            f"--total-images {2 * config.total_images} goes on, --run NAME starts another"
        )
    env.print(
        f"{'going on at' if saved else 'training from'} {state.images_seen:,} of {config.total_images:,} images "
        f"on {env.describe()}; {_order(stream)}"
    )
    seen = env.on_rank0(lambda: exits.enter_context(Seen(run, config.tracking, dataset, state)))
    saver = exits.enter_context(Saver(run, config.keep, env.print))
    start = state.images_seen // config.batch
    incoming = batches(stream, start, _workers(config, env), pin_memory=env.device.type == "cuda")
    iterate(config, env, state, _fed(incoming, env), saver, seen, len(dataset), evaluator)


@dataclass(frozen=True)
class _Due:
    """What fires after a step from ``before`` to ``after`` images seen."""

    before: int
    after: int
    end: int

    def __call__(self, cadence: int) -> bool:
        return self.after // cadence > self.before // cadence or self.after >= self.end

    def at_last(self, cycle: int) -> _Due:
        """What fires if the clock moves at the end of each cycle only (but at the end of the run, too)."""
        after = self.after if self.after >= self.end else self.after // cycle * cycle
        return _Due(self.before // cycle * cycle, after, self.end)


def iterate(
    config: Config,
    env: Distributed,
    state: TrainingState,
    incoming: Iterator[Batch],
    saver: Saver,
    seen: Seen | None,
    samples: int = 0,
    evaluator: PeriodicEvaluator | None = None,
) -> None:
    """Step through batches until the run has seen its images or is asked to stop, and fire what is due.

    Args:
        saver: on every process; only rank 0's saves.
        samples: in the data set, for the share of damaged ones.
        evaluator: evaluates at intervals; None: no evaluation.
    """
    last_save, complaint, skipped = state.images_seen, "", state.guard.skipped
    cycle = config.batch * config.d_steps  # its last step updates G too, and so has all there is to log
    for batch in signals.awaited(incoming):
        complaint = complaint or batch.first_damage
        due = _Due(state.images_seen, state.images_seen + config.batch, config.total_images)
        measure = due.at_last(cycle)(config.log_every)
        evaluating = evaluator is not None and config.evaluate_every is not None and due(config.evaluate_every)
        saving = evaluating or due(config.checkpoint_every)  # the best is saved when it is found
        result = state.step(batch)
        # What rank 0 cannot record or save ends all processes as a signal does: together, and saved.
        trouble = saver.failed or (seen is not None and seen.trouble is not None)
        news = env.sum_async(trouble or signals.request() is not None, batch.damaged)
        if measure or news[0] or saving:  # what is logged or saved is counted to the last image
            news = [a + b for a, b in zip(news, env.flush(len(news)), strict=True)]
        state.damaged += news[1]
        broken = state.damaged > config.damaged_limit * max(state.images_seen, samples)
        stopping = news[0] > 0 or broken
        values: dict[str, float] = {}
        if measure or saving:
            state.guard.flush()
        if state.guard.consecutive > config.skip_limit:
            env.on_rank0(saver.wait)
            raise _broken(", ".join(state.guard.terms), state.images_seen, last_save)
        if measure and state.guard.skipped > skipped:
            skipped = state.guard.skipped
            env.print(
                f"warning: {', '.join(state.guard.terms)} not finite at about {state.images_seen:,} images; "
                f"such steps change nothing ({skipped:,} so far)"
            )
        if measure:
            values = with_ratio(env.sum_to_floats(result.metrics)) | {
                metric_names.WRONG_SHARE: batch.wrong_count / config.batch
            }
            values |= {metric_names.DAMAGED: float(state.damaged), metric_names.SKIPPED: float(state.guard.skipped)}
            values |= state.rates
        best = None
        if evaluator is not None and evaluating:
            started = time.monotonic()
            figures = evaluator.evaluate(state.ema.module)
            env.on_rank0(saver.wait)
            best = evaluator.best_of(figures, state.images_seen, saver.run)
            values = values | figures
            if seen is not None:
                seen.spent_beside(time.monotonic() - started)
        if seen is not None:
            seen.advance(state.images_seen, config.batch, values)
        if stopping or best or due(config.checkpoint_every):
            _save(env, state, saver, last_save, best)
            last_save = state.images_seen
        if seen is not None and due(config.grid_every):
            seen.grid(state)
        if broken:
            env.on_rank0(saver.wait)
            raise _too_damaged(env, state, complaint)
        if stopping or state.images_seen >= config.total_images:
            return _leave(env, saver, state, seen)
    # A stop was asked for while the next pictures did not come.
    if env.world_size > 1:  # the others may be in the middle of a step, which is never finished
        saver.wait()
        raise Failure(f"stopped ({signals.request()}) while waiting for pictures; {env.resume_hint}")
    _save(env, state, saver, last_save)
    _leave(env, saver, state, seen)


def _save(env: Distributed, state: TrainingState, saver: Saver, last_save: int, best: Best | None = None) -> None:
    """Begin a save; what became of the one before it is raised here, on every process."""
    if not state.is_finite():
        env.on_rank0(saver.wait)
        raise _broken("weights", state.images_seen, last_save)
    state.pool()
    env.on_rank0(lambda: saver.begin(state.values(), state.files(), best))
    if last_save:  # which is on the disk now; this one is still being written
        env.resume_hint = _way_on(last_save)


def _fed(incoming: Iterator[Batch], env: Distributed) -> Iterator[Batch]:
    """What comes; a failure of what feeds the run says how it goes on."""
    try:
        yield from incoming
    except UserError as error:
        raise type(error)(f"{error}; then {env.resume_hint}") from None


def _way_on(images_seen: int) -> str:
    return f"the same command goes on from the newest checkpoint, of {images_seen:,} images or later"


def _leave(env: Distributed, saver: Saver, state: TrainingState, seen: Seen | None) -> None:
    """Say how to go on; under a scheduler, leave the marker that asks for the job to be queued again."""
    env.on_rank0(saver.wait)
    env.on_rank0(lambda: seen.complain() if seen is not None else None)
    run = saver.run
    if state.images_seen >= state.config.total_images:
        return env.print(f"done: {state.images_seen:,} images seen, weights in {run.checkpoints}")
    reason = env.broadcast(signals.request()) or "another process was asked to stop"
    env.print(
        f"stopped ({reason}) and saved at {state.images_seen:,} images in {run.path}; "
        "the same command goes on from there"
    )
    if marker := os.environ.get("REQUEUE_FILE"):
        env.on_rank0(lambda: _leave_marker(Path(marker)))


def _leave_marker(path: Path) -> None:
    with atomic_io.explained(path):
        path.touch()


def _broken(what: str, images_seen: int, last_save: int) -> Failure:
    intact = f"the checkpoint of {last_save:,} images is intact" if last_save else "nothing was saved"
    return Failure(
        f"{what} became non-finite and stayed so, by {images_seen:,} images; {intact}: "
        "lower --lr-g and --lr-d or raise --gamma, under another --run"
    )


def _too_damaged(env: Distributed, state: TrainingState, complaint: str) -> Failure:
    """What to say when too many pictures were replaced; one process says it."""
    first = next((c for c in env.all_gather(complaint) if c), "")
    error = Failure(
        f"damaged pictures: {state.damaged:,} of {state.images_seen:,} seen, more than --damaged-limit "
        f"{state.config.damaged_limit} allows{f' (first {first})' if first else ''}; mend the data set "
        f"(python -m shards verify names what is wrong), or raise the limit; saved at {state.images_seen:,} images"
    )
    error.told = not env.is_rank0
    return error


def _open_dataset(config: Config, env: Distributed, exits: contextlib.ExitStack) -> Dataset:
    if config.shards is not None:
        return Dataset.open(config.shards, cache=config.cache, cache_limit=_bytes(config.cache_limit))
    if config.preset != "smoke":
        raise UserError("--shards is missing: give a data set directory made by `python -m shards pack`")
    from shards.examples.shapes import smoke_dataset

    where = config.run_directory / "data"
    if config.dry_run:  # which writes nothing that stays
        where = env.broadcast(Path(exits.enter_context(tempfile.TemporaryDirectory())) / "data")
    env.on_rank0(lambda: smoke_dataset(where))
    return Dataset.open(where)


def _enter_run(
    run: RunDirectory, config: Config, dataset: Dataset, exits: contextlib.ExitStack
) -> tuple[Saved | None, Saved | None]:
    """Take the run directory, once all that was asked for is known to be there.

    Returns:
        The checkpoint to go on from, and the one of another run to start from; None where there is none.
    """
    trackers.check(config.log_with)
    # A run that goes on does not need the one that it came from any more.
    weights = find(config.init_from) if config.init_from is not None and not run.begun() else None
    exits.enter_context(run.lock())
    run.sweep()
    saved = run.resume(config, dataset)
    run.write_identity(config, dataset)
    return saved, weights


def _start_from(state: TrainingState, weights: Saved, env: Distributed) -> None:
    fresh = state.start_from(weights)
    env.print(f"weights from {weights.path}" + (f"; these stay fresh: {', '.join(fresh)}" if fresh else ""))


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 1e9)


def _stream(config: Config, dataset: Dataset, env: Distributed) -> Stream:
    """This process's share of the pictures, once all that was asked of their order is known to be possible."""
    sampling.check_division(config.batch, env.world_size, config.accumulate)
    stream = Stream(dataset, config.batch, config.seed, env.rank, env.world_size, config.data.sampling, config.wrong)
    sampling.check_cache(stream.order, config.data.sampling, dataset, _bytes(config.cache_limit))
    return stream


def _build(config: Config, dataset: Dataset, env: Distributed) -> TrainingState:
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    architecture = architecture_of(config.network, dataset.size, dataset.schema.widths)
    return TrainingState(config, architecture, env, kinds, loudness(dataset))


def _workers(config: Config, env: Distributed) -> int:
    if config.workers is not None:
        return config.workers
    return 1 if env.device.type == "cpu" else min(8, env.cores)


def _order_of(config: Config, dataset: Dataset, run: RunDirectory, env: Distributed) -> str:
    """What "auto" means: as before where the run goes on, else windowed where shards are copied to a cache."""
    if config.order != "auto":
        return config.order
    return env.broadcast(env.on_rank0(run.order)) or ("windowed" if dataset.remote else "full")


def _order(stream: Stream) -> str:
    return f"order: {sampling.describe(stream.order, stream.sampling, stream.dataset, stream.batch)}"


def _describe(config: Config, stream: Stream, state: TrainingState, env: Distributed) -> None:
    """What would be trained, for --dry-run."""
    dataset = stream.dataset

    def size(module: torch.nn.Module) -> str:
        return f"{sum(p.numel() for p in module.parameters()):,} parameters"

    lines = [f"  {name.replace('_', '-')}: {value}" for name, value in config.to_dict().items()]
    env.print("\n".join(["options:", *lines]))
    env.print(
        f"data: {len(dataset):,} pictures of {dataset.size}x{dataset.size}, "
        f"{dataset.schema.width} label entries in {len(dataset.schema.attributes)} attributes"
    )
    env.print(_order(stream))
    env.print(f"networks: G {size(state.g.module)}, D {size(state.d.module)}")
    env.print(f"machine: {env.describe()}\nversion: {version_line()}; nothing was written")
