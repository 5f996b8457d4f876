"""Enter a run directory: lock it, and restore its newest checkpoint or the weights that --init-from names."""

from __future__ import annotations

from contextlib import ExitStack

from shards.core.errors import UserError
from shards.dataset.label_rows import sample_labels
from trainer.averages import snapshots
from trainer.config import Config
from trainer.finetuning import initial_weights
from trainer.finetuning.initial_weights import InitialWeights
from trainer.run import lineage
from trainer.run.checkpoint import Checkpoint
from trainer.run.directory import LABELS_KEPT, resume_hint
from trainer.schedules.time_plan import TimePlan
from trainer.setup.build import TrainingSetup
from trainer.tracking import trackers


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
    """Load the weights that --init-from names, without a run directory, and return a sentence on them ("" without).

    Raises:
        UserError: as when a run enters its directory.
    """
    env = built.env
    weights = env.broadcast(env.on_rank0(lambda: _initial_weights(built)))
    return "" if weights is None else env.on_all_ranks(lambda: _start_from(built, weights))


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
