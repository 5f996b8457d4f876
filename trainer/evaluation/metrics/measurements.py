"""Inputs and results of metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.dataset.schema import Schema
from trainer.evaluation.metrics.label_accuracy import LabelAccuracy


@dataclass(frozen=True)
class ImageSet:
    """N images by what networks found in them.

    Attributes:
        label: float32 (N, L), the labels that real images have, or that generated ones were generated from.
        known: bool (N, A).
        features: float32 (N, F); F is 0 if no features were computed.
        logits: float32 (N, L), the judge's; L is 0 if the images were not judged.
        second_logits: the second judge's.
        spectra: float32 (N, R + 3) of `radial_power`; (N, 0) if none were computed.
    """

    label: np.ndarray
    known: np.ndarray
    features: np.ndarray
    logits: np.ndarray
    second_logits: np.ndarray
    spectra: np.ndarray

    @classmethod
    def of(
        cls,
        label: np.ndarray,
        known: np.ndarray,
        features: np.ndarray | None = None,
        logits: np.ndarray | None = None,
        second_logits: np.ndarray | None = None,
        spectra: np.ndarray | None = None,
    ) -> ImageSet:
        """Make a set of which only some things were measured."""
        nothing = np.empty((len(label), 0), np.float32)
        measured = (features, logits, second_logits, spectra)
        return cls(label, known, *(nothing if part is None else part for part in measured))

    def __len__(self) -> int:
        return len(self.label)

    def part(self, start: int, stop: int) -> ImageSet:
        """Return the images from ``start`` up to ``stop``."""
        parts = (self.label, self.known, self.features, self.logits, self.second_logits, self.spectra)
        return ImageSet(*(part[start:stop] for part in parts))


@dataclass(frozen=True)
class Measurements:
    """The inputs of all metrics; a metric declares in its `Needs` which of them it uses.

    Attributes:
        schema: of the labels.
        generated: images generated from labels of the dataset.
        real: real images of the dataset, in random order; no images if no metric needs features.
        count: number of images per set when distributions are compared.
        judge_accuracy: the judge's accuracy on held-out real images; None without a judge.
        new_combinations: images generated from combinations of values that do not occur in the dataset; None if there
            are no such combinations or no judge.
        second_accuracy: the second judge's accuracy on held-out real images; None without one.
        size: shorter side of the images in pixels; spectra need it.
    """

    schema: Schema
    generated: ImageSet
    real: ImageSet
    count: int
    judge_accuracy: LabelAccuracy | None = None
    new_combinations: ImageSet | None = None
    second_accuracy: LabelAccuracy | None = None
    size: int = 0

    @property
    def compared(self) -> ImageSet:
        """Return the ``count`` generated images whose distribution is compared."""
        return self.generated.part(0, self.count)

    @property
    def reference(self) -> ImageSet:
        """Return the ``count`` real images that generated images are compared with."""
        return self.real.part(0, self.count)

    @property
    def baseline(self) -> ImageSet:
        """Return ``count`` other real images: what they measure is what a perfect generator would reach."""
        return self.real.part(self.count, 2 * self.count)


@dataclass(frozen=True)
class PanelRow:
    """One row of a panel: indices into the generated and the real images of `Measurements`."""

    title: str
    generated: Sequence[int]
    real: Sequence[int] = ()


@dataclass(frozen=True)
class Panel:
    """Images to show for a metric; drawn by `trainer.evaluation.image_panels`."""

    name: str
    rows: Sequence[PanelRow]
    column_titles: Sequence[str] = ()


@dataclass
class Results:
    """The results of an evaluation.

    Attributes:
        values: metric values of the generated images by key.
        real: the real-vs-real baseline by key: the values that a perfect generator would reach; not every key has one.
        notes: sentences that a reader of the values must know.
        details: plain values for closer inspection.
        panels: images to show.
        warnings: codes and sentences that must not be overlooked.
    """

    values: dict[str, float] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    panels: list[Panel] = field(default_factory=list)
    warnings: list[tuple[str, str]] = field(default_factory=list)

    def add(self, key: str, value: float, real: float | None = None) -> None:
        """Add a value and its real-vs-real baseline. A value that is not finite becomes a note: JSON has no NaN."""
        if not math.isfinite(value):
            self.notes.append(f"{key} is left out: it cannot be computed from these images")
            return
        self.values[key] = float(value)
        if real is not None and math.isfinite(real):
            self.real[key] = float(real)

    def join(self, other: Results, network: str) -> None:
        """Add the results of other features: keys as ``fid@lite2``, next to those of the first ones; no panels."""
        for mine, more in ((self.values, other.values), (self.real, other.real), (self.details, other.details)):
            joined: dict[str, Any] = dict(mine) | {f"{key}@{network}": value for key, value in more.items()}
            first = {key: place for place, key in enumerate(mine)}
            ordered = sorted(joined, key=lambda key: first.get(key.partition("@")[0], first.get(key, len(first))))
            entries = {key: joined[key] for key in ordered}
            mine.clear()
            mine.update(entries)
        self.notes += [f"{network}: {note}" for note in other.notes if note not in self.notes]
        self.warnings += other.warnings
