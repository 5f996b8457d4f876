"""What a person sees of a run while it goes: progress, metrics, grids, trackers, the report. Rank 0 only."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator, Mapping
from types import TracebackType

import torch
from tqdm import tqdm

from shards.core.errors import Failure
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_rows
from trainer import metric_names
from trainer.config.monitoring import TrackingConfig
from trainer.generation import generate, image_grid
from trainer.generation.showcase import showcase
from trainer.noise import normal
from trainer.reporting.run_report import write_report
from trainer.run.directory import RunDirectory
from trainer.run.metrics_file import MetricsFile
from trainer.state import TrainingState
from trainer.tracking.diagnostics import Adviser
from trainer.tracking.trackers import open_trackers

_ROWS, _COLUMNS = 8, 8
_QUIET = 10.0  # seconds between two lines where there is no terminal to redraw


class Seen:
    """A context that shows and records one run from where it stands.

    Args:
        run: where to write; metrics past the clock (of a run that is being resumed) are cut away.
        state: the clock and the averaged generator.
    """

    def __init__(self, run: RunDirectory, config: TrackingConfig, dataset: Dataset, state: TrainingState) -> None:
        self.run, self.total_images = run, state.config.schedule.total_images
        seed = state.config.seed
        self.adviser = Adviser()
        self.trouble: Failure | None = None  # what keeps the metrics from being recorded
        rows = sample_rows(len(dataset), _ROWS * _COLUMNS, seed, "labels of the grid")
        drawn = Labels(dataset.labels[rows], dataset.known[rows])
        self.labels, self.titles = showcase(dataset.schema, drawn, _ROWS, _COLUMNS, rows)
        positions = torch.arange(len(self.labels.label), device=state.env.device)
        self.z = normal(seed, "noise of the grid", positions, state.architecture.noise)
        self.log_file = MetricsFile(run.metrics, keep_until=state.images_seen)
        self.trackers = open_trackers(
            run.path,
            config=state.config.to_dict(),
            log_with=config.log_with,
            project=config.wandb_project,
            entity=config.wandb_entity,
            group=config.wandb_group,
            mode=config.wandb_mode,
            resumed_at=state.images_seen,
        )
        self.report = run.path / "report.html"
        self.bar = tqdm(
            total=self.total_images,
            initial=state.images_seen,
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.1,
            disable=not sys.stderr.isatty(),
        )
        self._since, self._images, self._spoken = time.monotonic(), state.images_seen, 0.0
        self._seconds_beside = 0.0
        self.say(f"grids and report: {run.samples}, {self.report}")
        for sentence in self.trackers.where:
            self.say(sentence)

    def __enter__(self) -> Seen:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self.trackers.close(exit_code=0 if kind is None else 1)
        with self._warned():
            self.log_file.close()
            write_report(self.run.path)

    def say(self, sentence: str) -> None:
        """Print without tearing the progress bar."""
        tqdm.write(sentence, file=sys.stdout)
        sys.stdout.flush()

    def complain(self) -> None:
        """Raise what kept the metrics from being recorded, if anything did."""
        if self.trouble is not None:
            raise self.trouble

    def spent_beside(self, seconds: float) -> None:
        """Leave a time out of the next logged speed."""
        self._seconds_beside += seconds

    def advance(self, images_seen: int, images: int, values: Mapping[str, float]) -> None:
        """Move the progress bar; record one line of metrics, everywhere, if there are values."""
        self.bar.update(images)
        if values and self.trouble is None:
            try:
                self._log(images_seen, values)
            except Failure as error:
                self.trouble = error

    def _log(self, images_seen: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        speed = (images_seen - self._images) / max(now - self._since - self._seconds_beside, 1e-9)
        self._since, self._images, self._seconds_beside = now, images_seen, 0.0
        row = {**values, metric_names.SPEED: speed}
        self.log_file.write(images_seen, row)
        self.trackers.log(images_seen, row)
        for sentence in self.adviser.look(row):
            self.say(f"advice at {images_seen:,} images: {sentence}")
        losses = [name for name in (metric_names.LOSS_D, metric_names.LOSS_G) if name in values]
        summary = "  ".join(f"{name.removeprefix('loss/')} {values[name]:.3f}" for name in losses)
        self.bar.set_postfix_str(summary)
        if self.bar.disable and now - self._spoken > _QUIET:
            self._spoken = now
            left = (self.total_images - images_seen) / speed
            self.say(
                f"{images_seen:>10,} of {self.total_images:,} images  {speed:,.0f} img/s  "
                f"{summary}  {_duration(left)} left"
            )

    def grid(self, state: TrainingState) -> None:
        """Draw the fixed noises and labels with the averaged generator, and show them."""
        start = time.monotonic()
        pictures = generate.generate_images(state.ema.module, self.z, self.labels)
        path = self.run.samples / f"{state.images_seen:012d}.png"
        with self._warned():
            image_grid.save(image_grid.grid(pictures, _COLUMNS, row_titles=self.titles), path, captions=self.titles)
            self.trackers.log_grid(state.images_seen, path, self.titles)
            write_report(self.run.path)
        self.spent_beside(time.monotonic() - start)

    @contextlib.contextmanager
    def _warned(self) -> Iterator[None]:
        """A picture that cannot be written is worth a warning, not the run."""
        try:
            yield
        except (Failure, OSError) as error:
            self.say(f"warning: {error}; the training goes on")


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
