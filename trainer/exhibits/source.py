"""Noise and labels that all exhibits of a run share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from shards.dataset.label_rows import Labels, sample_labels
from shards.dataset.schema import Schema
from trainer.generation.prompts import Vocabulary
from trainer.noise import normal

_LABELS = "labels of exhibits"  # key of the random labels


class Exhibit(NamedTuple):
    """An image grid before it is generated, row by row."""

    name: str
    z: Tensor  # (n, noise_size)
    labels: Labels  # n rows
    columns: int
    row_titles: list[str]
    column_titles: list[str]


@dataclass(frozen=True)
class Source:
    """Noise and labels of all exhibits."""

    vocabulary: Vocabulary
    noise_size: int
    seed: int
    device: torch.device

    @property
    def schema(self) -> Schema:
        return self.vocabulary.schema

    def z(self, count: int) -> Tensor:
        """Return the first noise vectors, (count, noise_size); they are the same in every exhibit."""
        return normal(self.seed, "noise of exhibits", torch.arange(count, device=self.device), self.noise_size)

    def labels(self, count: int) -> Labels:
        """Return up to ``count`` distinct labels of the dataset."""
        drawn = self.random_labels(len(self.vocabulary.labels.label))
        rows = np.concatenate([drawn.label, drawn.known], 1)
        first = np.sort(np.unique(rows, axis=0, return_index=True)[1])[:count]
        return Labels(drawn.label[first], drawn.known[first])

    def random_labels(self, count: int) -> Labels:
        """Return ``count`` labels of the dataset, as frequent as they are there."""
        return sample_labels(*self.vocabulary.labels, count, self.seed, _LABELS)

    def title(self, label: np.ndarray, known: np.ndarray) -> str:
        return ", ".join(self.schema.words(label, known)) or "(as an image of the dataset)"
