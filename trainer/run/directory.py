"""A run's directory: its options, vocabulary and labels, its lock, and whether what is asked for is still that run."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from safetensors.numpy import save

from shards.core.atomic_io import write_bytes
from shards.core.errors import Failure, UserError
from shards.core.version import __version__, revision
from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import sample_labels
from trainer.config import Config, compare
from trainer.config.data import ORDERS
from trainer.run import checkpoint
from trainer.run.lock import RunLock

_LABELS = 4096  # rows of the data's labels that a run keeps, to draw from when nobody names an attribute

_OWN = ("lock.json", "config.yaml", "schema.json", "labels.safetensors", "metrics.jsonl")


class RunDirectory:
    """``runs/NAME/``: config.yaml, metrics.jsonl, samples/, checkpoints/, report.html, and the trackers' files."""

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
        """Write a checkpoint with the run's identity, as `checkpoint.save` does.

        Raises:
            Failure: the disk refuses, or another process has taken the run over.
        """
        if not self._lock.held():
            raise Failure(f"{self.path} was taken over by another process while this one was silent; nothing was saved")
        checkpoint.save(self.path, {**values, **self.identity}, files, keep, best)

    def lock(self) -> RunLock:
        """Be the run's only writer.

        Raises:
            UserError: on entering, if another process is.
        """
        try:
            self.samples.mkdir(parents=True, exist_ok=True)
            self.checkpoints.mkdir(exist_ok=True)
        except OSError as error:
            raise UserError(f"--run {self.path} cannot be written: {error.strerror}") from None
        return self._lock

    def sweep(self) -> None:
        """Remove what a killed trainer had half written, while its successor holds the lock.

        Of files that are the trainer's alone: an evaluation may be writing others here at this moment.
        """
        own = [self.path.glob(f".{name}.*.tmp") for name in _OWN]
        for leftover in itertools.chain(*own, self.samples.glob(".*.tmp"), self.checkpoints.glob(".*.tmp")):
            leftover.unlink(missing_ok=True)

    def resume(self, config: Config, dataset: Dataset) -> checkpoint.Saved | None:
        """The checkpoint to go on from, if there is one and this is the same run.

        Raises:
            UserError: options or data differ from the run's own, or all of its checkpoints are damaged.
        """
        saved, complaints = checkpoint.newest(self.path)
        if saved is None:
            if complaints:
                raise UserError(f"{complaints[0]}, and no whole one is left; start anew under another --run")
            return None
        for complaint in complaints:
            print(f"warning: {complaint}; going on from {saved.path.name}", file=sys.stderr, flush=True)
        if differences := compare(saved.state["config"], config):
            lines = "\n".join(differences)
            raise UserError(
                f"{self.path} was started with other options:\n{lines}\n"
                f"give the same ones to go on, or another --run (--init-from {self.path} starts it from these weights)"
            )
        if saved.state["data"] != dataset.fingerprint:
            raise UserError(
                f"{dataset.where} is not the data set that {self.path} was trained on; give that one, or another --run"
            )
        checkpoint.set_damaged_aside(self.path, saved)
        checkpoint.restore_best(self.path, saved)
        return saved

    def begun(self) -> bool:
        """Whether there are checkpoints, so that the run goes on from one or not at all."""
        return self.checkpoints.is_dir() and any(path.name.isdigit() for path in self.checkpoints.iterdir())

    def order(self) -> str | None:
        """The order that a run which can go on has its pictures in, so that "auto" stays what it was; else None."""
        if not self.begun():
            return None
        try:
            content = yaml.safe_load((self.path / "config.yaml").read_text("utf-8"))
        except (OSError, ValueError, yaml.YAMLError):
            return None
        order = content.get("order") if isinstance(content, dict) else None
        return order if order in ORDERS else None

    def write_identity(self, config: Config, dataset: Dataset) -> None:
        """Note what this run is: options, vocabulary, a sample of the data's labels."""
        self.identity = {
            "data": dataset.fingerprint,
            "schema": dataset.schema.to_json(),
            "text_encoder": dataset.manifest.get("text_encoder"),
            "aliases": dataset.manifest.get("aliases"),
            "version": __version__,
            "commit": revision(),
            "torch": torch.__version__,
        }
        write_bytes(self.path / "config.yaml", yaml.safe_dump(config.to_dict(), sort_keys=False).encode())
        words = {**self.identity["schema"], **{key: self.identity[key] for key in ("text_encoder", "aliases")}}
        write_bytes(self.path / "schema.json", json.dumps(words, indent=1).encode())
        count = min(_LABELS, len(dataset))
        drawn = sample_labels(dataset.labels, dataset.known, count, config.seed, "labels kept by a run")
        tensors = {"label": drawn.label, "known": drawn.known.astype(np.uint8)}
        write_bytes(self.path / "labels.safetensors", save(tensors))
