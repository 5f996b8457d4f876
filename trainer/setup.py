"""Build everything that a training run consists of: dataset, stream, training state, run directory.

`build` makes everything that does not need the run directory, which is enough for --dry-run; `enter_run` then locks the
run directory and restores a checkpoint. All ranks call the same functions, and a `UserError` on one of them ends all.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from shards.core.errors import UserError
from shards.core.version import version_line
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from shards.stream import sampling
from shards.stream.decoded_cache import CachePlan, plan_cache
from shards.stream.stream import Stream
from trainer.augment import Unchanged
from trainer.augment.adaptive import AdaptiveProbability
from trainer.augment.transform import Transform
from trainer.averages import snapshots
from trainer.averages.ema import ExponentialMovingAverage
from trainer.averages.power_averages import PowerAverages
from trainer.compilation import compile_networks
from trainer.config import Config
from trainer.config.data import DataConfig
from trainer.config.machine import MachineConfig
from trainer.distributed.process_group import Distributed
from trainer.label_scaling import LabelScaling, measure_scaling
from trainer.losses import LOSSES, ClassLoss, class_loss
from trainer.models import architecture_of, fresh_networks
from trainer.networks import Architecture, conditioning_of
from trainer.networks.conditioning import LabelMask, set_label_scaling
from trainer.networks.discriminator import Discriminator
from trainer.nonfinite import NonFiniteGuard
from trainer.run import lineage
from trainer.run.checkpoint import Checkpoint, find
from trainer.run.directory import LABELS_KEPT, RunDirectory
from trainer.schedules.schedule import Schedule
from trainer.schedules.time_plan import TimePlan
from trainer.state import TrainingState
from trainer.step import Method, Player
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
    stream = env.on_all_ranks(lambda: _open_stream(config, dataset, env))
    starts = not env.broadcast(env.on_rank0(run.has_checkpoints))
    decoded_cache = env.on_all_ranks(lambda: plan_cache(dataset, config.data.decoded_cache, required=starts))
    kinds = [attribute.kind for attribute in dataset.schema.attributes]
    state = env.on_all_ranks(
        lambda: build_state(config, env, dataset.size, dataset.schema.widths, kinds, measure_scaling(dataset))
    )
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
    checkpoint, initial_weights = env.broadcast(found or (None, None))
    if checkpoint is not None:
        if state.plan is not None and checkpoint.state.plan is not None:
            follow(state, checkpoint.state.plan)
        env.on_all_ranks(lambda: state.load(checkpoint))
        env.resume_hint = resume_hint(state.images_seen)
    elif initial_weights is not None:
        fresh = env.on_all_ranks(lambda: state.init_from(initial_weights))
        env.print(f"weights from {initial_weights.path}" + (f"; initialized: {', '.join(fresh)}" if fresh else ""))
    return checkpoint


def keep_decoded(built: TrainingSetup) -> str:
    """Open the cache of decoded images on every rank, and return one line on it.

    Raises:
        UserError: on every rank, if --decoded-cache names a directory that cannot be used on one of them.
    """
    rows, plan = built.env.on_all_ranks(built.decoded_cache.open)
    built.stream.decoded = rows
    return plan.describe(rows)


def describe(built: TrainingSetup, memory: str) -> str:
    """Return the resolved options and what would be trained, for --dry-run; ``memory`` is a line on what it needs."""
    dataset, state = built.dataset, built.state
    options = [f"  {name.replace('_', '-')}: {value}" for name, value in built.config.to_dict().items()]
    return "\n".join(
        [
            "options:",
            *options,
            f"data: {len(dataset):,} images of {dataset.size}x{dataset.size}, "
            f"{dataset.schema.width} label entries in {len(dataset.schema.attributes)} attributes",
            describe_order(built.stream),
            built.decoded_cache.describe(),
            f"networks: G {_size(state.g.module)}, D {_size(state.d.module)}",
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


# ---------------------------------------------------------------- data and run directory


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


def _enter_directory(built: TrainingSetup, exits: ExitStack) -> tuple[Checkpoint | None, Checkpoint | None]:
    """Lock the run directory, once the trackers and --init-from are known to be there.

    Returns:
        The checkpoint to resume from, and that of another run to take initial weights from.
    """
    config, run = built.config, built.run
    trackers.check(config.tracking.log_with)
    # A run that resumes does not need --init-from any more.
    starts = config.init_from is not None and not run.has_checkpoints()
    initial = find(config.init_from).require_training_state() if config.init_from is not None and starts else None
    exits.enter_context(run.lock())
    run.remove_leftovers()
    checkpoint = run.resume(config, built.dataset)
    lineage.record(run.path, lineage.influences_of(config, built.dataset, initial), starts=checkpoint is None)
    snapshots.discard_newer(run.path, checkpoint.images_seen if checkpoint is not None else 0)
    dataset, count = built.dataset, min(LABELS_KEPT, len(built.dataset))
    labels = sample_labels(dataset.labels, dataset.known, count, config.seed, "labels kept by a run")
    run.write_identity(config, dataset, labels, built.env.describe().partition(";")[0])
    return checkpoint, initial


def _bytes(gigabytes: float) -> int:
    return int(gigabytes * 1e9)


# ---------------------------------------------------------------- training state


def build_state(
    config: Config,
    env: Distributed,
    size: int,
    widths: tuple[int, ...],
    kinds: Sequence[str],
    scaling: LabelScaling | None = None,
) -> TrainingState:
    """Build the networks, their optimizers and the method, freshly initialized.

    Args:
        size: side of the images in pixels.
        widths: label entries of each attribute.
        kinds: kind of each attribute (see `shards.dataset.schema`).
        scaling: how label entries are scaled; None: not at all.

    Raises:
        UserError: the networks do not support the image size, or they cannot be compiled.
    """
    dtype: torch.dtype = getattr(torch, config.machine.dtype)
    architecture = architecture_of(config.network, size, widths)
    augmentation = _build_augmentation(config, env, dtype)
    label_loss = config.method.label_loss
    method = Method(
        loss=LOSSES[config.method.loss],
        mismatch=config.method.mismatch if config.method.mismatch_weight else "none",
        mismatch_weight=config.method.mismatch_weight,
        interpolate=config.method.interpolate,
        gamma=config.method.gamma,
        penalty_every=config.method.penalty_every,
        mixed_penalty=config.machine.penalty_precision == "auto" and env.penalties_may_be_mixed,
        noise=config.network.noise_size,
        seed=config.seed,
        augment=augmentation or Unchanged(),
        classes=_build_class_loss(architecture, label_loss > 0, kinds, scaling, env, dtype),
        classifier_weight=label_loss or config.method.classifier_weight,
        classifier_guides_g=not label_loss,
    )
    optim = config.optim
    plan = TimePlan() if config.schedule.minutes is not None else None
    g, d = fresh_networks(architecture, config.seed)
    if label_loss:
        d.score_labels()
    for network in (g, d):
        _set_scaling(network, scaling)
        network.to(env.device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = TrainingState(
        config=config,
        architecture=architecture,
        env=env,
        ema=ExponentialMovingAverage(g, optim.ema_half_life, optim.ema_ramp),
        g=_build_player(g, optim.lr_g, optim.betas, env),
        d=_build_player(d, optim.lr_d, optim.betas, env),
        method=method,
        augmentation=augmentation,
        schedules=_build_schedules(config, plan.scale if plan is not None else None),
        dtype=dtype,
        guard=NonFiniteGuard(env.wait_for, scaled=env.scaler.is_enabled()),
        plan=plan,
        averages=PowerAverages(g) if optim.ema_snapshots and env.is_rank0 else None,
    )
    if config.machine.compile and not config.dry_run:
        env.print("compiling the networks, which takes a minute or more")
        state.g.compiled = state.d.compiled = True
        micro_batch = config.data.batch // env.world_size // config.machine.accumulate
        _compile(g, d, architecture, method, micro_batch, config.method.updates == "joint", env)
    return state


def _build_augmentation(config: Config, env: Distributed, dtype: torch.dtype) -> Transform | None:
    options = config.augmentation
    if options.augment == "none":
        return None
    if options.augment == "diff":
        return Transform(options.augment_kinds, options.flip, options.augment_p)
    adaptive = AdaptiveProbability(options.ada_target, options.ada_speed, config.data.batch, env.device, dtype)
    return Transform("ada", options.flip, adaptive=adaptive)


def _build_class_loss(
    architecture: Architecture,
    label_loss: bool,
    kinds: Sequence[str],
    scaling: LabelScaling | None,
    env: Distributed,
    dtype: torch.dtype,
) -> ClassLoss | None:
    """Return the loss of D's scores of label entries, on labels as the networks receive them; None without scores."""
    if not (label_loss or conditioning_of(architecture).classifies):
        return None
    mask = LabelMask(architecture.widths)
    _set_scaling(mask, scaling)
    mask = mask.to(env.device, dtype)
    return lambda scores, y, k: class_loss(scores, mask(y, k), k, kinds, architecture.widths)


def _build_player(module: nn.Module, lr: float, betas: tuple[float, float], env: Distributed) -> Player:
    fused = env.device.type in ("cuda", "cpu")
    optimizer = torch.optim.Adam(module.parameters(), lr, betas=betas, fused=fused)
    return Player(env.wrap(module), module, optimizer)


def follow(state: TrainingState, plan: TimePlan) -> None:
    """Make a training state follow a plan of --minutes, which its schedules end with."""
    state.plan = plan
    state.schedules = _build_schedules(state.config, plan.scale)


def _build_schedules(config: Config, scale: int | None = None) -> dict[str, Schedule]:
    """Return what is a function of images seen, by the name it is logged under.

    Args:
        scale: images over which schedules extend with --minutes.
    """
    optim, schedule = config.optim, config.schedule
    over = scale or schedule.decay_images or 0
    total = scale or schedule.total_images
    warmup = min(schedule.warmup_images, total - 1) if scale else schedule.warmup_images  # of a slow machine

    def rate(start: float) -> Schedule:
        if schedule.cooldown:
            since = schedule.cooldown_since_of(total)
            return Schedule(start, start * schedule.cooldown_to, "linear", total, warmup, since)
        return Schedule(start, start * schedule.decay_to, schedule.decay, over, warmup)

    def cosine(start: float, end: float | None) -> Schedule:
        return Schedule(start) if end is None else Schedule(start, end, "cosine", over)

    return {
        "lr_g": rate(optim.lr_g),
        "lr_d": rate(optim.lr_d),
        "gamma": cosine(config.method.gamma, schedule.gamma_end),
        "beta2": cosine(optim.betas[1], schedule.beta2_end),
        "ema_half_life": cosine(optim.ema_half_life, schedule.ema_half_life_end),
        "augment_p": cosine(config.augmentation.augment_p, schedule.augment_p_end),
    }


def _compile(
    g: nn.Module,
    d: Discriminator,
    architecture: Architecture,
    method: Method,
    micro_batch: int,
    joint: bool,
    env: Distributed,
) -> None:
    generated = 2 * micro_batch if method.interpolate else micro_batch
    # Conditioned early, D computes features once per (image, label); else those of a real image serve two labels.
    three_parts = method.mismatch == "generated" or (method.mismatch == "real" and d.conditioning.early is not None)
    scored = 3 * micro_batch if three_parts else 2 * micro_batch
    compile_networks(g, d, architecture, generated=generated, scored=scored, joint=joint, autocast=env.autocast)


def _set_scaling(network: nn.Module, scaling: LabelScaling | None) -> None:
    if scaling is not None:
        set_label_scaling(network, torch.from_numpy(scaling.centre), torch.from_numpy(scaling.scale))


def _size(module: nn.Module) -> str:
    return f"{sum(p.numel() for p in module.parameters()):,} parameters"
