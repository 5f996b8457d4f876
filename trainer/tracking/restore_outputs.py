"""Make up for the outputs of a run that a killed process did not write: grids, a row of metrics, the report.

A checkpoint is written before the grid of the same step is drawn, so a process can end in between. What is due at a
step is a function of images seen, and a grid is a function of the checkpoint, so whoever resumes the run can draw it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

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


@dataclass(frozen=True)
class ResumedRun:
    """A run as it is found when it is resumed, before it trains on.

    Args:
        directory: the run directory, whose lock this process holds.
        config: the options of the run.
        dataset: that it is trained on.
        newest: the checkpoint from which it resumes.
        generator: the averaged generator with the weights of ``newest``; never changed.
        log: receives a sentence about each grid.
    """

    directory: RunDirectory
    config: Config
    dataset: Dataset
    newest: Checkpoint
    generator: nn.Module
    log: Callable[[str], None]

    def restore_outputs(self) -> None:
        """Write what is missing up to the newest checkpoint; what cannot be written is a warning."""
        try:
            metrics_file.restore_row(self.directory.metrics, self.newest.images_seen, self.newest.state.row)
            self._draw_missing_grids()
            if self.newest.images_seen >= self.config.schedule.total_images:
                write_report(self.directory.path)
        except (Failure, OSError) as error:
            code = error.code if isinstance(error, Failure) else "file-unwritable"
            warn(code, f"{error}; training continues")

    def _draw_missing_grids(self) -> None:
        missing = [path for path in checkpoint.directories(self.directory.path) if self._lacks_grid(int(path.name))]
        if not missing:
            return
        device = next(self.generator.parameters()).device
        grids = SampleGrids(self.directory.samples, self.config, self.dataset, device)
        for path in missing:
            if (generator := self._generator_at(path)) is not None:
                grids.draw(int(path.name), generator)
                self.log(f"the sample grid of {int(path.name):,} images was missing, and is drawn again")

    def _lacks_grid(self, images_seen: int) -> bool:
        before, total = images_seen - self.config.data.batch, self.config.schedule.total_images
        due = before < total and is_due(self.config.tracking.grid_every, before, images_seen, total)
        return due and not grid_path(self.directory.samples, images_seen).exists()

    def _generator_at(self, path: Path) -> nn.Module | None:
        """Return the averaged generator of a checkpoint; None if that is damaged."""
        if path == self.newest.path:
            return self.generator
        try:
            saved = checkpoint.read(path)
            other = copy.deepcopy(self.generator)
            with state_dicts.explain_load_errors(path):
                state_dicts.load_module(other, saved.tensors("ema"))
        except UserError:
            return None
        return other
