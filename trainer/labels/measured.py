"""What a run measures on the labels of its dataset before it builds its networks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainer.labels.scaling import LabelScaling


@dataclass(frozen=True)
class MeasuredLabels:
    """Facts on a dataset's labels that networks and losses follow.

    Attributes:
        scaling: how label entries are scaled; None: not at all.
        weights: of the attributes, see `trainer.labels.weights`; None: all 1.
        captions: labels that captions are told from, see `trainer.labels.captions`; None if there are no captions.
    """

    scaling: LabelScaling | None = None
    weights: np.ndarray | None = None
    captions: np.ndarray | None = None


UNMEASURED = MeasuredLabels()  # labels are neither scaled nor weighted
