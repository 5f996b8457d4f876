"""Make up for the outputs of a run that a killed process did not write: grids, a row of metrics, the report.

A checkpoint is written before the grid of the same step is drawn, so a process can end in between. What is due at a
step is a function of images seen, and a grid is a function of the checkpoint, so whoever resumes the run can draw it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from shards.core.errors import Failure, UserError, warn
from shards.dataset.dataset import Dataset
from trainer.config import Config
from trainer.reporting.run_report import write_report
from trainer.run import checkpoint, metrics_file, state_dicts
from trainer.run.checkpoint import Checkpoint
from trainer.run.directory import RunDirectory
from trainer.tracking.cadence import is_due
from trainer.tracking.sample_grids import SampleGrids, grid_path


def restore_outputs(
    run: RunDirectory,
    config: Config,
    dataset: Dataset,
    newest: Checkpoint,
    generator: nn.Module,
    log: Callable[[str], None],
) -> None:
    """Write what is missing up to the newest checkpoint; what cannot be written is a warning.

    Args:
        run: the run directory, whose lock this process holds.
        config: the options of the run.
        dataset: that it is trained on.
        newest: the checkpoint from which the run resumes.
        generator: the averaged generator with the weights of ``newest``; unchanged on return.
        log: receives a sentence about each grid.
    """
    try:
        metrics_file.restore_row(run.metrics, newest.images_seen, newest.state.row)
        _draw_missing_grids(run, config, dataset, newest, generator, log)
        if newest.images_seen >= config.schedule.total_images:
            write_report(run.path)
    except (Failure, OSError) as error:
        code = error.code if isinstance(error, Failure) else "file-unwritable"
        warn(code, f"{error}; training continues")


def _draw_missing_grids(
    run: RunDirectory,
    config: Config,
    dataset: Dataset,
    newest: Checkpoint,
    generator: nn.Module,
    log: Callable[[str], None],
) -> None:
    missing = [path for path in checkpoint.directories(run.path) if _lacks_grid(run, config, int(path.name))]
    if not missing:
        return
    grids = SampleGrids(run.samples, config, dataset, _device(generator))
    for path in missing:
        if path == newest.path:
            grids.draw(newest.images_seen, generator)
        elif (other := _of_checkpoint(path, generator)) is not None:
            grids.draw(int(path.name), other)
        log(f"the sample grid of {int(path.name):,} images was missing, and is drawn again")


def _lacks_grid(run: RunDirectory, config: Config, images_seen: int) -> bool:
    before, total = images_seen - config.data.batch, config.schedule.total_images
    due = before < total and is_due(config.tracking.grid_every, before, images_seen, total)
    return due and not grid_path(run.samples, images_seen).exists()


def _of_checkpoint(path: Path, generator: nn.Module) -> nn.Module | None:
    """Return a copy of the generator with the weights of another checkpoint; None if that is damaged."""
    try:
        saved = checkpoint.read(path)
        other = copy.deepcopy(generator)
        with state_dicts.explain_load_errors(path):
            state_dicts.load_module(other, saved.tensors("ema"))
    except UserError:
        return None
    return other


def _device(generator: nn.Module) -> torch.device:
    return next(generator.parameters()).device
