"""Build everything that a training run consists of: dataset, stream, training state, run directory.

`build` makes everything that does not need the run directory, which is enough for --dry-run; `enter_run` then locks the
run directory and restores a checkpoint. All ranks call the same functions, and a `UserError` on one of them ends all.
"""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from shards.core.errors import UserError
from shards.core.version import version_line
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from shards.stream import sampling
from shards.stream.decoded_cache import CachePlan, plan_cache
from shards.stream.stream import Stream
from trainer.averages import snapshots
from trainer.config import Config
from trainer.config.data import DataConfig
from trainer.config.machine import MachineConfig
from trainer.distributed.process_group import Distributed
from trainer.finetuning import initial_weights
from trainer.finetuning.initial_weights import InitialWeights
from trainer.fresh_state import build_state
from trainer.labels.measured import measure_labels
from trainer.run import lineage
from trainer.run.checkpoint import Checkpoint
from trainer.run.directory import LABELS_KEPT, RunDirectory
from trainer.schedules.time_plan import TimePlan
from trainer.sizing.choice import fit_to_time
from trainer.state import TrainingState
from trainer.tracking import trackers


@dataclass(frozen=True)
class TrainingSetup:
    """Everything that a run consists of, before it enters its run directory.

    Attributes:
        config: the options, with every "auto" resolved.
        env: this rank's device and process group.
        stream: this rank's part of each global batch.
        state: the training state, freshly initialized.
        run: the run directory, not entered yet.
        decoded_cache: where decoded images are kept, not opened yet.
    """

    config: Config
    env: Distributed
    dataset: Dataset
    stream: Stream
    state: TrainingState
    run: RunDirectory
    decoded_cache: CachePlan


def build(config: Config, env: Distributed, exits: ExitStack) -> TrainingSetup:
    """Open the dataset and build the stream and the training state.

    Args:
        exits: closes what must be closed when the run ends.

    Raises:
        UserError: on every rank, if an option cannot be met on any of them.
    """
    dataset = env.on_all_ranks(lambda: _open_dataset(config, env, exits))
    run = RunDirectory(config.run_directory)
    config = config.replace(
        mixed_precision=env.precision,
        penalty_precision=_resolve_penalty_precision(config.machine, run, env),
        order=_resolve_order(config.data, dataset, run, env),
    )
    starts = not env.broadcast(env.on_rank0(run.has_checkpoints))
    config = fit_to_time(config, dataset, env, run, starts=starts)
    stream = env.on_all_ranks(lambda: _open_stream(config, dataset, env))
    where = config.data.decoded_cache
    is_new = bool(env.broadcast(env.on_rank0(lambda: run.saved_decoded_cache() != where)))
    decoded_cache = env.on_all_ranks(lambda: plan_cache(dataset, where, required=is_new))
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    measured = measure_labels(dataset, env, weighted=starts and not config.dry_run)
    state = env.on_all_ranks(lambda: build_state(config, env, dataset.shape, dataset.schema.widths, kinds, measured))
    return TrainingSetup(config, env, dataset, stream, state, run, decoded_cache)


def enter_run(built: TrainingSetup, exits: ExitStack) -> Checkpoint | None:
    """Lock the run directory and restore its newest checkpoint, or the weights that --init-from names.

    Returns:
        The checkpoint from which the run resumes; None if it starts.

    Raises:
        UserError: another process trains this run, or it was started with other options or data.
    """
    env, state = built.env, built.state
    found = env.on_rank0(lambda: _enter_directory(built, exits))
    checkpoint, weights = env.broadcast(found or (None, None))
    if checkpoint is not None:
        if state.plan is not None and checkpoint.state.plan is not None:
            same_time = checkpoint.state.config.get("minutes") == built.config.schedule.minutes
            # With other --minutes, what is left of them is planned like a new run.
            state.follow(checkpoint.state.plan if same_time else TimePlan(seconds=checkpoint.state.plan.seconds))
        env.on_all_ranks(lambda: state.load(checkpoint))
        env.resume_hint = resume_hint(state.images_seen)
    elif weights is not None:
        env.print(env.on_all_ranks(lambda: _start_from(built, weights)))
    return checkpoint


def try_initial_weights(built: TrainingSetup) -> str:
    """Start from the weights that --init-from names, without a run directory, and return a sentence; "" without.

    Raises:
        UserError: as when a run enters its directory.
    """
    env = built.env
    weights = env.broadcast(env.on_rank0(lambda: _initial_weights(built)))
    return "" if weights is None else env.on_all_ranks(lambda: _start_from(built, weights))


def keep_decoded(built: TrainingSetup) -> str:
    """Open the cache of decoded images on every rank, and return one line on it.

    Raises:
        UserError: on every rank, if --decoded-cache names a directory that cannot be used on one of them.
    """
    rows, plan = built.env.on_all_ranks(built.decoded_cache.open)
    built.stream.decoded = rows
    return plan.describe(rows)


def describe(built: TrainingSetup, memory: str, initial: str) -> str:
    """Return the resolved options and what would be trained, for --dry-run.

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
            built.decoded_cache.describe(),
            f"networks: G {_size(state.g.module)}, D {_size(state.d.module)}",
            *([initial] if initial else []),
            f"machine: {built.env.describe()}",
            memory,
            f"version: {version_line()}; nothing was written",
        ]
    )


def describe_order(stream: Stream) -> str:
    """Return one line on the order of samples."""
    return f"order: {sampling.describe(stream.order, stream.sampling, stream.dataset, stream.batch)}"


def resume_hint(images_seen: int) -> str:
    """Return what to tell a person whose run ends while a checkpoint of ``images_seen`` is on the disk."""
    return f"re-run the same command to resume from the newest checkpoint, of {images_seen:,} images or later"


def data_workers(machine: MachineConfig, env: Distributed) -> int:
    """Return the number of data-loading processes of this rank."""
    if machine.workers is not None:
        return machine.workers
    return 1 if env.device.type == "cpu" else min(8, env.cores)


def _open_dataset(config: Config, env: Distributed, exits: ExitStack) -> Dataset:
    data = config.data
    if data.shards is not None:
        return Dataset.open(data.shards, cache=data.cache, cache_limit=_bytes(data.cache_limit))
    if config.preset != "smoke":
        raise UserError("option-missing", "--shards is missing: give a dataset made by `cgan pack`")
    from shards.examples.shapes import smoke_dataset

    path = config.run_directory / "data"
    if config.dry_run:  # leaves nothing behind
        path = env.broadcast(Path(exits.enter_context(tempfile.TemporaryDirectory())) / "data")
    env.on_rank0(lambda: smoke_dataset(path))
    return Dataset.open(path)


def _open_stream(config: Config, dataset: Dataset, env: Distributed) -> Stream:
    data, order = config.data, config.data.sampling
    sampling.check_division(data.batch, env.world_size, config.machine.accumulate)
    stream = Stream(dataset, data.batch, config.seed, env.rank, env.world_size, order, config.method.wrong)
    sampling.check_cache(stream.order, order, dataset, _bytes(data.cache_limit))
    return stream


def _resolve_order(data: DataConfig, dataset: Dataset, run: RunDirectory, env: Distributed) -> str:
    """Resolve --order auto: that of the run if it is resumed, else windowed if shards are copied to a cache."""
    if data.order != "auto":
        return data.order
    return env.broadcast(env.on_rank0(run.saved_order)) or ("windowed" if dataset.remote else "full")


def _resolve_penalty_precision(machine: MachineConfig, run: RunDirectory, env: Distributed) -> str:
    """Resolve --penalty-precision auto: that of the run if it is resumed; "full" if there is no bf16 to use."""
    if machine.penalty_precision == "full":
        return "full"
    saved = env.broadcast(env.on_rank0(run.saved_penalty_precision))
    return "full" if saved == "full" or not env.penalties_may_be_mixed else "auto"


def _enter_directory(built: TrainingSetup, exits: ExitStack) -> tuple[Checkpoint | None, InitialWeights | None]:
    """Lock the run directory, once the trackers and --init-from are known to be there.

    Returns:
        The checkpoint to resume from, and the weights of another run to start from.
    """
    config, run = built.config, built.run
    trackers.check(config.tracking.log_with)
    initial = _initial_weights(built)
    exits.enter_context(run.lock())
    run.remove_leftovers()
    checkpoint = run.resume(config, built.dataset)
    influences = lineage.influences_of(config, built.dataset, initial.saved if initial is not None else None)
    lineage.record(run.path, influences, starts=checkpoint is None)
    snapshots.discard_newer(run.path, checkpoint.images_seen if checkpoint is not None else 0)
    dataset, count = built.dataset, min(LABELS_KEPT, len(built.dataset))
    labels = sample_labels(dataset.labels, dataset.known, count, config.seed, "labels kept by a run")
    run.write_identity(config, dataset, labels, built.env.describe().partition(";")[0])
    return checkpoint, initial


def _initial_weights(built: TrainingSetup) -> InitialWeights | None:
    """Read the weights that --init-from names; a run that resumes does not need them any more."""
    config = built.config
    if built.run.has_checkpoints():
        return None
    initial = initial_weights.read(config.init_from) if config.init_from is not None else None
    if config.optim.freeze_d and (initial is None or initial.saved.is_average):
        raise UserError("option-without-effect", _nothing_to_freeze(config, initial))
    return initial


def _nothing_to_freeze(config: Config, initial: InitialWeights | None) -> str:
    what = "there are no weights to keep" if initial is None else f"{config.init_from} has no discriminator"
    return (
        f"--freeze-d {config.optim.freeze_d}: {what}; give a run whose discriminator is trained with --init-from, or "
        "leave --freeze-d out"
    )


def _start_from(built: TrainingSetup, weights: InitialWeights) -> str:
    where = built.config.init_from
    if where is not None and not built.env.is_rank0:
        weights = initial_weights.on_this_machine(weights, where)
    return built.state.init_from(weights, built.dataset)


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 1e9)


def _size(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,} parameters"
