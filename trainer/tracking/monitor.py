"""Live monitoring on rank 0: progress bar, metrics, sample grids, trackers and the report."""

from __future__ import annotations

import contextlib
import functools
import math
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType

import torch
from torch import nn
from tqdm import tqdm

from shards.core.errors import Failure, UserError
from shards.dataset.dataset import Dataset
from trainer import metric_names
from trainer.config import Config
from trainer.reporting.number_format import format_duration
from trainer.reporting.run_report import write_report
from trainer.run.directory import RunDirectory
from trainer.run.metrics_file import MetricsFile
from trainer.run.redaction import without_secrets
from trainer.tracking import artifacts
from trainer.tracking.diagnostics import Diagnostics
from trainer.tracking.sample_grids import SampleGrids
from trainer.tracking.trackers import open_trackers
from trainer.tracking.variety import Variety
from trainer.tracking.wandb_run import reason

_LARGEST = 10**9  # bytes of a generator that is uploaded without being asked for
_PRINT_SECONDS = 10.0  # between two progress lines where there is no terminal for a progress bar


class Monitor:
    """A context that shows and records a run while it trains.

    Args:
        run: where to write.
        config: the options of the run.
        dataset: provides the labels of the sample grids.
        images_seen: where the training starts; a resumed run's metrics after it are removed.
        device: of the generator.

    Attributes:
        failure: why metrics cannot be recorded any more; None while they can.
    """

    def __init__(
        self, run: RunDirectory, config: Config, dataset: Dataset, *, images_seen: int, device: torch.device
    ) -> None:
        self.run = run
        self.total_images: int | None = config.schedule.total_images
        self.diagnostics = Diagnostics()
        self.failure: Failure | None = None
        self.grids = SampleGrids(run.samples, config, dataset, device)
        self._variety = functools.cache(lambda: self._prepare_variety(config, dataset, device))  # when it is needed
        self._last_row: tuple[int, dict[str, float]] = (-1, {})
        self.log_file = MetricsFile(run.metrics, keep_until=images_seen)
        self._images_seen, self._started = images_seen, time.monotonic()
        tracking = config.tracking
        self._artifacts = tracking.wandb_artifacts
        self.trackers = open_trackers(
            run.path,
            config=config.to_dict(),
            log_with=tracking.log_with,
            project=tracking.wandb_project,
            entity=tracking.wandb_entity,
            group=tracking.wandb_group,
            mode=tracking.wandb_mode,
            resumed_at=images_seen,
        )
        self.report = run.path / "report.html"
        self.bar = tqdm(
            total=self.total_images,
            initial=images_seen,
            unit="img",
            unit_scale=True,
            dynamic_ncols=True,
            smoothing=0.1,
            disable=not sys.stderr.isatty(),
        )
        self._last_log, self._last_images, self._last_print = time.monotonic(), images_seen, 0.0
        self._excluded_seconds = 0.0
        self.print(f"sample grids: {run.samples}; report: {self.report}")
        for sentence in self.trackers.where:
            self.print(sentence)
        if not self.trackers.keep_artifacts:
            self._artifacts = "none"
        if self._artifacts != "none":
            with self._harmless("the dataset's manifest"):
                self.trackers.log_artifact(artifacts.of_dataset(dataset))

    def __enter__(self) -> Monitor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()
        self._log_models(ended=kind is None)
        self._report_end(error)
        self.trackers.close(exit_code=0 if kind is None else 1)
        with self._warned():
            self.log_file.close()
            write_report(self.run.path)

    def _log_models(self, ended: bool = False) -> None:
        """Log the checkpoints that have been written, or where the run has ended its generators."""
        with self._harmless("models"):
            if self._artifacts == "checkpoints":
                for made in artifacts.of_checkpoints(self.run.path):
                    self.trackers.log_artifact(made)
            elif self._artifacts == "generator" and ended and self._is_complete:
                self._log_generators()

    def _log_generators(self) -> None:
        with tempfile.TemporaryDirectory(prefix="cgan-") as folder:
            for made in artifacts.of_generators(self.run.path, Path(folder), self._not_logged):
                if made.size <= _LARGEST:
                    self.trackers.log_artifact(made)
                else:
                    self.print(
                        f"{made.key} has {made.size / 1e9:.1f} GB and stays here; --wandb-artifacts checkpoints logs "
                        "models of any size"
                    )

    @contextlib.contextmanager
    def _harmless(self, what: str) -> Iterator[None]:
        """Turn any error into a warning: files for trackers are copies, which no run depends on."""
        try:
            yield
        except Exception as error:
            self._not_logged(what, error)

    def _not_logged(self, what: str, error: Exception) -> None:
        self.print(f"warning: {what} could not be logged ({reason(error)}); training continues [tracker-failed]")

    @property
    def _is_complete(self) -> bool:
        return self.total_images is not None and self._images_seen >= self.total_images

    def _report_end(self, error: BaseException | None) -> None:
        """Alert people that the run has ended, and how."""
        name, time_spent = self.run.path.name, format_duration(time.monotonic() - self._started)
        seen = f"{self._images_seen:,} images seen, {time_spent} since it was started or resumed"
        if isinstance(error, Exception):
            self.trackers.alert(f"{name} has failed", f"{without_secrets(reason(error))}; {seen}", "error")
        else:
            self.trackers.alert(f"{name} {'is complete' if self._is_complete else 'was stopped'}", seen)

    def print(self, sentence: str) -> None:
        """Print a line above the progress bar."""
        tqdm.write(sentence, file=sys.stdout)
        sys.stdout.flush()

    def raise_failure(self) -> None:
        """Raise the failure that keeps metrics from being recorded, if there is one."""
        if self.failure is not None:
            raise self.failure

    def exclude_time(self, seconds: float) -> None:
        """Exclude a time from the next logged speed."""
        self._excluded_seconds += seconds

    def set_total(self, images: int | None) -> None:
        """Show that the run ends at ``images``; None if it is not known yet."""
        self.total_images = self.bar.total = images

    def advance(self, images_seen: int, images: int, values: Mapping[str, float]) -> None:
        """Move the progress bar by ``images``; record ``values`` in metrics.jsonl and all trackers if there are any."""
        self.bar.update(images)
        self._images_seen = images_seen
        if values and self.failure is None:
            try:
                self._log(images_seen, values)
            except Failure as error:
                self.failure = error

    def row_at(self, images_seen: int) -> dict[str, float]:
        """Return what was logged at ``images_seen``; empty if nothing was."""
        at, row = self._last_row
        return row if at == images_seen else {}

    def _log(self, images_seen: int, values: Mapping[str, float]) -> None:
        now = time.monotonic()
        speed = (images_seen - self._last_images) / max(now - self._last_log - self._excluded_seconds, 1e-9)
        self._last_log, self._last_images, self._excluded_seconds = now, images_seen, 0.0
        row = {**values, metric_names.SPEED: speed}
        self._last_row = images_seen, row
        self.log_file.write(images_seen, row)
        self.trackers.log(images_seen, row)
        for code, message in self.diagnostics.update(row).items():
            self.print(f"warning: at {images_seen:,} images: {message} [{code}]")
            self.trackers.alert(f"{self.run.path.name}: {code}", f"at {images_seen:,} images: {message}", "warn")
        if self._artifacts == "checkpoints":
            self._log_models()
        losses = [name for name in (metric_names.LOSS_D, metric_names.LOSS_G) if name in values]
        summary = "  ".join(f"{name.removeprefix('loss/')} {values[name]:.3f}" for name in losses)
        self.bar.set_postfix_str(summary)
        if self.bar.disable and now - self._last_print > _PRINT_SECONDS:
            self._last_print = now
            of, left = "", ""
            if self.total_images is not None:
                of = f" of {self.total_images:,}"
                left = f"  {format_duration((self.total_images - images_seen) / speed)} left"
            self.print(f"{images_seen:>10,}{of} images  {speed:,.0f} img/s  {summary}{left}")

    def _prepare_variety(self, config: Config, dataset: Dataset, device: torch.device) -> Variety | None:
        try:
            return Variety(dataset, config.network.noise_size, config.seed, device)
        except (UserError, OSError) as error:
            code = error.code if isinstance(error, UserError) else "file-unreadable"
            self.print(f"warning: {error}; {metric_names.VARIETY} is not measured [{code}]")
            return None

    def measure_variety(self, generator: nn.Module) -> dict[str, float]:
        """Return `samples/variety`; nothing if the dataset does not allow it."""
        start = time.monotonic()
        variety = self._variety()
        found = math.nan if variety is None else variety.measure(generator)
        self.exclude_time(time.monotonic() - start)
        return {} if math.isnan(found) else {metric_names.VARIETY: found}

    def save_grid(self, images_seen: int, generator: nn.Module) -> None:
        """Generate images from the fixed noise and labels; write the sample grid and the report."""
        start = time.monotonic()
        with self._warned():
            grid = self.grids.draw(images_seen, generator)
            self.trackers.log_grid(images_seen, grid.path, grid.titles)
            if self._artifacts != "none":
                with self._harmless("the table of the grid"):
                    self.trackers.log_table(images_seen, grid.rows())
            write_report(self.run.path)
        self.exclude_time(time.monotonic() - start)

    @contextlib.contextmanager
    def _warned(self) -> Iterator[None]:
        """Turn a failure into a warning: an image that cannot be written does not end the run."""
        try:
            yield
        except (Failure, OSError) as error:
            code = error.code if isinstance(error, Failure) else "file-unwritable"
            self.print(f"warning: {error}; training continues [{code}]")
