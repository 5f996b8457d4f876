"""Options of what is logged, shown, evaluated and kept while a run trains; intervals are counted in images seen."""

from __future__ import annotations

from dataclasses import dataclass

from shards.core import cli
from shards.core.cli import option


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Metrics, sample grids and the services that they are sent to."""

    log_every: int = option(2_000, "images between two lines of metrics", minimum=1, may_change=True)
    grid_every: int = option(20_000, "images between two grids of generated images", minimum=1, may_change=True)
    log_with: tuple[str, ...] = option(
        ("wandb",),
        "trackers to use: wandb, tensorboard, trackio, …; none: metrics.jsonl only",
        may_change=True,
    )
    wandb_project: str | None = option(
        None, "Weights & Biases project (default: $WANDB_PROJECT, then cgan-trainer)", may_change=True
    )
    wandb_entity: str | None = option(
        None, "Weights & Biases team or user (default: your default entity)", may_change=True
    )
    wandb_group: str | None = option(None, "Weights & Biases group (default: none)", may_change=True)
    wandb_mode: str | None = option(
        None,
        "Weights & Biases mode; auto: online if an API key is found",
        choices=("auto", "online", "offline", "disabled"),
        may_change=True,
    )

    wandb_artifacts: str = option(
        "generator",
        "files that W&B keeps versions of; dataset: its manifest and schema, and a table of each sample grid; "
        "generator: also the newest and the best generator of a complete run, each up to 1 GB; checkpoints: also each "
        "checkpoint, of any size",
        choices=("none", "dataset", "generator", "checkpoints"),
        may_change=True,
    )

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds.
        """
        cli.validate(self)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Evaluations during training, and the checkpoints that are kept."""

    checkpoint_every: int = option(20_000, "images between two checkpoints", minimum=1, may_change=True)
    keep: int = option(3, "number of newest checkpoints to keep", minimum=1, may_change=True)
    evaluate_every: int | None = option(
        None,
        "images between two short evaluations by a label classifier (default: no evaluation)",
        minimum=1,
        may_change=True,
    )
    best_by: str = option(
        "fidelity",
        "metric of these evaluations that decides which checkpoint is kept as the best",
        choices=("fidelity", "kid"),
        may_change=True,
    )

    def __post_init__(self) -> None:
        """Validate the section.

        Raises:
            UserError: a value is out of bounds.
        """
        cli.validate(self)
