"""Metrics that are biased because the run's training used the same network, images or labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from shards.dataset.dataset import Dataset
from trainer.evaluation.evaluation_networks import EvaluationNetworks
from trainer.evaluation.judge.data import validation_part
from trainer.evaluation.metrics.registry import Metric, Needs, metric_of
from trainer.run import lineage
from trainer.run.checkpoint import Checkpoint
from trainer.run.lineage import Influence

_FEW = 1000  # images of a validation part, below which a judge would learn too little


def influences_of(directory: Path, saved: Checkpoint, notes: list[str]) -> tuple[Influence, ...]:
    """Return what touched the training of a run; of one without a record, its dataset, with a note.

    Args:
        directory: of the run, or an exported generator's, which may be anywhere, also within another run's.
        saved: its checkpoint, or the export.
        notes: takes a sentence about what is unknown.

    Raises:
        UserError: the record is damaged.
    """
    recorded = lineage.read(directory)
    if recorded is not None:
        return recorded
    notes.append(
        f"{directory} has no lineage.json, as exports and runs of earlier versions: what touched the training besides "
        "its dataset is unknown"
    )
    found = [Influence("images", "training images", "", saved.state.data)]
    if lineage.learns_labels(saved.state.config):
        found.append(Influence("network", "label classifier in the discriminator", "", "", (saved.state.data,)))
    return tuple(found)


def judged_dataset(dataset: Dataset, influences: Sequence[Influence]) -> Dataset:
    """Return the images that judges learn from: apart from those of a classifier that taught, if that is possible."""
    if not is_taught(dataset, influences):
        return dataset
    part = validation_part(dataset)
    return dataset if part is None or len(part) < _FEW else part


def is_taught(dataset: Dataset, influences: Sequence[Influence]) -> bool:
    """Return whether a classifier that taught the run learned the labels of this dataset."""
    return dataset.fingerprint in _taught(influences)


def marks(
    influences: Sequence[Influence], dataset: Dataset, networks: EvaluationNetworks, keys: Iterable[str]
) -> dict[str, list[str]]:
    """Return by key of a figure the names of its `MARKS`; figures that share nothing are left out.

    Args:
        influences: what touched the training.
        dataset: of the real images.
        networks: what measured.
        keys: of all figures.
    """
    images = any(_shares_images(influence, dataset) for influence in influences)
    teachers = {influence.identity for influence in influences if influence.kind == "network" and influence.identity}
    taught = networks.judged in _taught(influences)
    found: dict[str, list[str]] = {}
    for key in keys:
        metric = metric_of(key)
        if metric is None:
            continue
        extractor = networks.extractor_of(key) if Needs.FEATURES in metric.needs else None
        by_judge = Needs.LOGITS in metric.needs or (extractor is not None and extractor.name == "judge")
        names = {
            "training-images": images and _compares(metric),
            "teaching-network": extractor is not None and extractor.weights in teachers,
            "taught-labels": by_judge and taught,
        }
        if any(names.values()):
            found[key] = [name for name, holds in names.items() if holds]
    return found


def _compares(metric: Metric) -> bool:
    """Return whether a metric compares with real images, and is better where they are those of the training."""
    return metric.rewards_copies and bool(metric.needs & (Needs.FEATURES | Needs.SPECTRA))


def _shares_images(influence: Influence, dataset: Dataset) -> bool:
    if influence.kind != "images":
        return False
    if influence.identity == dataset.fingerprint:
        return True
    return bool(influence.sample) and lineage.shared_images(influence.sample, lineage.image_sample(dataset)) > 0


def _taught(influences: Sequence[Influence]) -> set[str]:
    return {fingerprint for influence in influences for fingerprint in influence.learned_from}
