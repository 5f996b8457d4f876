"""A whole run of the trainer on the fake GPU: a dataset, logs, grids and checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any
from unittest import mock

import numpy as np

from support.fake_cuda.meter import Meter

import torch  # isort: skip - after the rig
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from shards.dataset.dataset import Dataset
from trainer import config as configuration
from trainer.evaluation import evaluation_networks
from trainer.evaluation.judge import classifier
from trainer.evaluation.judge.judge import Judge
from trainer.evaluation.metrics.label_accuracy import label_accuracy
from trainer.run.checkpoint import Checkpoint
from trainer.run.directory import RunDirectory
from trainer.setup import training
from trainer.state import TrainingState


def run(words: str) -> Meter:
    """Train as the command line does, and return what was seen."""
    meter = Meter()
    with _without_values(), meter:
        training.train(configuration.load(words.split()))
    return meter


@contextlib.contextmanager
def _without_values() -> Iterator[None]:
    """Replace the few parts of a run that need numbers."""
    is_finite, save, load = TrainingState.is_finite, RunDirectory.save, Checkpoint.tensors

    def finite(state: TrainingState) -> bool:
        return is_finite(state) or True

    def save_zeros(
        run: RunDirectory, values: Mapping[str, Any], files: Mapping[str, Mapping[str, Tensor]], *others: Any
    ) -> None:
        """Save real tensors; this runs in a thread, and a thread without the fake mode makes real ones."""
        zeros = {
            file: {name: torch.zeros(tuple(tensor.shape), dtype=tensor.dtype) for name, tensor in tensors.items()}
            for file, tensors in files.items()
        }
        save(run, values, zeros, *others)

    def load_real(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
        with _disable_current_modes():
            return load(checkpoint, name)

    def untrained(dataset: Dataset, *, device: str, **_: Any) -> Judge:
        schema, shape = dataset.schema, dataset.shape
        net = classifier.ARCHITECTURES["strided"](shape, schema.width).to(device)
        label, known = dataset.labels[:], dataset.known[:]
        accuracy = label_accuracy(schema, np.zeros_like(label), label, known)
        identity = {"method": "untrained", "data": dataset.fingerprint}
        return Judge(schema, shape, accuracy, identity, np.ones(schema.width, np.float32), net.eval())

    with (
        mock.patch.object(evaluation_networks, "judge_of", untrained),
        mock.patch.object(TrainingState, "is_finite", finite),
        mock.patch.object(RunDirectory, "save", save_zeros),
        mock.patch.object(Checkpoint, "tensors", load_real),
    ):
        yield
