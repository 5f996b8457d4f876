"""The run directory: options, schema, sampled labels and lock of a run, and the check that a request matches it."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import psutil
import torch
import yaml
from safetensors.numpy import save

from shards.core import cli, text_files
from shards.core.atomic_io import write_bytes
from shards.core.errors import Failure, UserError, warn
from shards.core.version import __version__, revision
from trainer.config import Config, compare
from trainer.config.data import ORDERS
from trainer.run import checkpoint, dataset_notes
from trainer.run.lock import RunLock

if TYPE_CHECKING:
    from shards.dataset.dataset import Dataset
    from shards.dataset.label_rows import Labels

LABELS_KEPT = 4096  # labels of the dataset that a run keeps; attributes that a prompt does not name are drawn from them

_TRAINER_FILES = ("lock.json", "config.yaml", "lineage.json", "schema.json", "labels.safetensors", "metrics.jsonl")


class RunDirectory:
    """``runs/NAME/``: config.yaml, metrics.jsonl, samples/, checkpoints/, report.html, and files of trackers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkpoints = path / "checkpoints"
        self.samples = path / "samples"
        self.metrics = path / "metrics.jsonl"
        self.identity: dict[str, Any] = {}
        self._lock = RunLock(path)

    def save(
        self,
        values: Mapping[str, Any],
        files: Mapping[str, Mapping[str, torch.Tensor]],
        keep: int,
        best: checkpoint.Best | None = None,
    ) -> None:
        """Write a checkpoint with the run's identity (see `checkpoint.save`).

        Raises:
            Failure: the disk is full or not writable, or another process has taken the run over.
        """
        self.require_lock()
        checkpoint.save(self.path, {**values, **self.identity}, files, keep, best)

    def require_lock(self) -> None:
        """Raise Failure if another process has taken the run over."""
        if not self._lock.held():
            raise Failure("in-use", f"{self.path} {self._lock.loss()}; nothing was saved since the last checkpoint")

    def lock(self) -> RunLock:
        """Return a context that makes this process the run's only writer.

        Raises:
            UserError: the directory cannot be written; on entering, if another process writes the run.
        """
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            if self.path.is_symlink() and not self.path.exists():
                raise UserError(
                    "not-writable",
                    f"--run {self.path} is a symlink to {self.path.readlink()}, which does not exist; create that "
                    "directory, or use another --run",
                ) from None
            raise UserError("not-writable", f"--run {self.path} cannot be written: {error.strerror}") from None
        return self._lock

    def remove_leftovers(self) -> None:
        """Remove the temporary files of a killed trainer, while its successor holds the lock.

        Only files that no other process writes: an evaluation or `cgan report` may be writing others at the same time.
        """
        own = [self.path.glob(f".{name}.*.tmp") for name in _TRAINER_FILES]
        own.append(path for path in self.path.glob(".report.html.*.tmp") if not _is_written(path))
        for leftover in itertools.chain(*own, self.samples.glob(".*.tmp"), self.checkpoints.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)

    def resume(self, config: Config, dataset: Dataset) -> checkpoint.Checkpoint | None:
        """Return the checkpoint to resume from, or None if the run is new.

        Raises:
            UserError: the options or the dataset differ from the run's, or all of its checkpoints are damaged.
        """
        saved, complaints = checkpoint.newest(self.path)
        if saved is None:
            if complaints:
                raise UserError(
                    "checkpoint-damaged",
                    f"{complaints[0]}, and no intact checkpoint is left; start a new run with another --run",
                )
            return None
        saved.require_training_state()
        for complaint in complaints:
            warn("checkpoint-damaged", f"{complaint}; resuming from {saved.path.name}")
        if differences := compare(saved.state.config, config):
            lines = "\n".join(differences)
            raise UserError(
                "run-options-differ",
                f"{self.path} was started with other options:\n{lines}\n"
                f"use the same options to resume, or another --run "
                f"(--init-from {self.path} starts it from these weights)",
            )
        if saved.state.data != dataset.fingerprint:
            raise UserError(
                "wrong-dataset",
                f"{dataset.where} is not the dataset that {self.path} was trained on; use that one, or another --run",
            )
        checkpoint.rename_damaged(self.path, saved)
        checkpoint.restore_best(self.path)
        checkpoint.prune(self.path, config.evaluation.keep)
        return saved

    def has_checkpoints(self) -> bool:
        """Return True if the run has checkpoints, so that it can only be resumed."""
        return self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())

    def saved_order(self) -> str | None:
        """Return the resolved --order of a run with checkpoints, so that "auto" keeps its meaning; otherwise None."""
        order = self._saved_options().get("order")
        return order if order in ORDERS else None

    def saved_penalty_precision(self) -> str | None:
        """Return the resolved --penalty-precision of a run with checkpoints, "full" if it is older; otherwise None."""
        options = self._saved_options()
        return options.get("penalty_precision", "full") if options else None

    def saved_size(self) -> dict[str, Any]:
        """Return the --channels and --batch of a run with checkpoints, by name, as far as they can be read."""
        options = self._saved_options()
        found: dict[str, Any] = {}
        for name in ("channels", "batch"):
            with contextlib.suppress(UserError):
                if name in options:
                    found[name] = cli.coerce(Config, name, options[name])
        return found

    def saved_decoded_cache(self) -> str | None:
        """Return the --decoded-cache that a run with checkpoints was last trained with; otherwise None."""
        return self._saved_options().get("decoded_cache")

    def _saved_options(self) -> dict[str, Any]:
        """Return the options of a run with checkpoints; empty without, or if they cannot be read."""
        if not self.has_checkpoints():
            return {}
        try:
            content = text_files.read_yaml(self.path / "config.yaml")
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def write_identity(self, config: Config, dataset: Dataset, labels: Labels, machine: str | None = None) -> None:
        """Write the files that identify the run: options, schema and a sample of the dataset's labels.

        Args:
            config: the resolved options.
            dataset: what the run trains on.
            labels: up to `LABELS_KEPT` labels drawn from the dataset.
            machine: one line about the devices, which checkpoints record.
        """
        self.identity = {
            "data": dataset.fingerprint,
            "schema": dataset.schema.to_json(),
            "text_encoder": dataset.manifest.get("text_encoder"),
            "aliases": dataset.manifest.get("aliases"),
            "version": __version__,
            "commit": revision(),
            "torch": torch.__version__,
            "machine": machine,
        }
        write_bytes(self.path / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False).encode())
        words = {**self.identity["schema"], **{key: self.identity[key] for key in ("text_encoder", "aliases")}}
        words["dataset"] = dataset_notes.notes_of(dataset)
        write_bytes(self.path / "schema.json", json.dumps(words, indent=1).encode())
        tensors = {"label": labels.label, "known": labels.known.astype(np.uint8)}
        write_bytes(self.path / "labels.safetensors", save(tensors))


def resume_hint(images_seen: int) -> str:
    """Return what to tell a person whose run ends while a checkpoint of ``images_seen`` is on the disk."""
    return f"re-run the same command to resume from the newest checkpoint, of {images_seen:,} images or later"


def _is_written(temporary: Path) -> bool:
    """Return whether the process in the name of a temporary file (see `atomic_writer`) is alive on this machine."""
    number = temporary.suffixes[-2][1:]
    return number.isdecimal() and len(number) < 10 and psutil.pid_exists(int(number))
