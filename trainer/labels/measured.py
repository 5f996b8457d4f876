"""Measure on a dataset's labels what networks and losses follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from shards.dataset.dataset import Dataset
from trainer.distributed.process_group import Distributed
from trainer.labels.captions import sample_captions
from trainer.labels.scaling import LabelScaling, measure_scaling
from trainer.labels.weights import measure_weights


@dataclass(frozen=True)
class MeasuredLabels:
    """Measurements on a dataset's labels.

    Attributes:
        scaling: how label entries are scaled; None: not at all.
        weights: of the attributes, see `trainer.labels.weights`; None: all 1.
        captions: labels that captions are told from, see `trainer.labels.captions`; None if there are no captions.
    """

    scaling: LabelScaling | None = None
    weights: np.ndarray | None = None
    captions: np.ndarray | None = None


UNMEASURED = MeasuredLabels()


def measure_labels(dataset: Dataset, env: Distributed, *, weighted: bool) -> MeasuredLabels:
    """Measure the labels of a dataset; all ranks call this, and rank 0 measures the weights.

    Args:
        dataset: what the run trains on.
        env: the ranks.
        weighted: measure the weights, too; a run that is resumed has them in its checkpoint.
    """
    weights = env.broadcast(env.on_rank0(lambda: measure_weights(dataset))) if weighted else None
    return env.on_all_ranks(lambda: MeasuredLabels(measure_scaling(dataset), weights, sample_captions(dataset)))
