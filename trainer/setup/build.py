"""Build what a training run consists of: dataset, stream, training state, and the run directory, not entered yet."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.stream import sampling
from shards.stream.batch import Batch
from shards.stream.decoded_cache import CachePlan, plan_cache
from shards.stream.loader import batches
from shards.stream.stream import Stream
from trainer.config import Config
from trainer.config.data import DataConfig
from trainer.config.machine import MachineConfig
from trainer.distributed.process_group import Distributed
from trainer.fresh_state import build_state
from trainer.labels.measured import measure_labels
from trainer.run.directory import RunDirectory
from trainer.sizing.choice import fit_to_time
from trainer.state import TrainingState


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


def keep_decoded(built: TrainingSetup) -> str:
    """Open the cache of decoded images on every rank, and return one line on it.

    Raises:
        UserError: on every rank, if --decoded-cache names a directory that cannot be used on one of them.
    """
    rows, plan = built.env.on_all_ranks(built.decoded_cache.open)
    built.stream.decoded = rows
    return plan.describe(rows)


def describe_order(stream: Stream) -> str:
    """Return one line on the order of samples."""
    return f"order: {sampling.describe(stream.order, stream.sampling, stream.dataset, stream.batch)}"


def incoming_batches(built: TrainingSetup, images_seen: int) -> Iterator[Batch]:
    """Yield this rank's part of each batch, without end, from a clock on."""
    env, batch = built.env, built.config.data.batch
    workers = _data_workers(built.config.machine, env)
    return batches(built.stream, images_seen // batch, workers, pin_memory=env.device.type == "cuda")


def _data_workers(machine: MachineConfig, env: Distributed) -> int:
    """Return the number of data-loading processes of this rank."""
    if machine.workers is not None:
        return machine.workers
    return 1 if env.device.type == "cpu" else min(8, env.cores)


def _open_dataset(config: Config, env: Distributed, exits: ExitStack) -> Dataset:
    data = config.data
    if data.shards is not None:
        return Dataset.open(data.shards, cache=data.cache, limit_bytes=_bytes(data.cache_limit))
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


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 1e9)
