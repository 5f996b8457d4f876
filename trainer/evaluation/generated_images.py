"""The images that an evaluation generates: which labels, which noise, and what networks measure in them.

Labels and noise are counter-based, keyed by an image's number, so the images do not depend on the number of processes.
"""

from __future__ import annotations

import sys
from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from torch import nn
from tqdm import tqdm

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_labels
from shards.dataset.schema import WORDLESS
from trainer.distributed.process_group import Distributed
from trainer.evaluation.evaluation_networks import EvaluationNetworks
from trainer.evaluation.metrics.combinations import Combinations
from trainer.generation.sharded import generate_and_measure, generate_at

_DRAWS_PER_COMBINATION = 20  # recombined labels drawn for each new combination wanted


@dataclass(frozen=True)
class GeneratedImages:
    """Images of a generator, one per label.

    Attributes:
        generator: in eval mode.
        noise_size: length of its noise vector.
        labels: one row per image.
        seed: together with ``purpose`` and an image's number it determines the noise.
        purpose: key of the noise.
    """

    generator: nn.Module
    noise_size: int
    labels: Labels
    seed: int
    purpose: str

    def measure(
        self, env: Distributed, networks: EvaluationNetworks, title: str, progress: bool
    ) -> dict[str, np.ndarray]:
        """Generate all images and return what each network finds; the same call and result on every process.

        Args:
            title: of the progress bar.
            progress: show a bar, on a terminal.
        """
        hidden = not (progress and env.is_rank0 and sys.stderr.isatty())
        inputs = self.generator, self.noise_size, self.labels, self.seed, self.purpose
        with tqdm(total=len(self.labels.label), desc=title, unit="img", dynamic_ncols=True, disable=hidden) as bar:
            measured = generate_and_measure(env, *inputs, networks.measure, bar.update)
        return networks.named(measured)

    def images(self, numbers: np.ndarray) -> np.ndarray:
        """Generate some of the images again: uint8 (n, C, H, W).

        Args:
            numbers: int64 (n,).
        """
        labels = Labels(self.labels.label[numbers], self.labels.known[numbers])
        return generate_at(self.generator, self.noise_size, labels, self.seed, self.purpose, numbers)


def new_combinations(dataset: Dataset, count: int, seed: int, doubted: Collection[str] = ()) -> Labels | None:
    """Return labels that combine values that never occur together in the dataset, made by recombining its labels.

    Each exclusive attribute is taken from another image's label, so values are as frequent as in the dataset.

    Args:
        count: at most this many labels.
        doubted: names of attributes that are not recombined, as no judge could recognise the new value.

    Returns:
        The labels; None if there are no such combinations, or labels hold captions or vectors.
    """
    schema = dataset.schema
    exclusive = [
        number
        for number, attribute in enumerate(schema.attributes)
        if attribute.kind == "exclusive" and attribute.name not in doubted
    ]
    if len(exclusive) < 2 or any(attribute.kind in WORDLESS for attribute in schema.attributes):
        return None
    labels, known = np.asarray(dataset.labels), np.asarray(dataset.known)
    seen = Combinations.of(schema, labels, known, exclusive)
    draws = _DRAWS_PER_COMBINATION * count
    drawn = sample_labels(labels, known, draws, seed, "labels to recombine")
    for a in exclusive:
        other = sample_labels(labels, known, draws, seed, f"labels to recombine, attribute {a}")
        start = int(schema.starts[a])
        entries = slice(start, start + schema.attributes[a].width)
        drawn.label[:, entries], drawn.known[:, a] = other.label[:, entries], other.known[:, a]
    new, _ = seen.unseen(drawn.label, drawn.known)
    rows = np.flatnonzero(new)[:count]
    return Labels(drawn.label[rows], drawn.known[rows]) if len(rows) else None
