"""Read a label off an image: by the dataset's judge, or by a discriminator that learned labels."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.schema import Schema
from trainer.augment.pixels import weigh_by_alpha
from trainer.evaluation.judge.judge import cached_judge
from trainer.evaluation.metrics.label_accuracy import judgeable_attributes
from trainer.generation.sampler import Sampler
from trainer.inversion.target import to_tensor
from trainer.models import load_discriminator
from trainer.run.exported import ExportedGenerator


class Reading(NamedTuple):
    """The label that a network reads off an image.

    Attributes:
        reader: "judge" or "discriminator".
        label: float32 (L,).
        read: bool (A,), the attributes that it reads.
    """

    reader: str
    label: np.ndarray
    read: np.ndarray


def read_label(sampler: Sampler, run: Path, image: np.ndarray) -> Reading | None:
    """Return the reading of an image uint8 (C, H, W); None if no network of this run reads labels.

    The judge is used if `cgan judge` or `cgan evaluate` has trained it, and the run's dataset is where it was.
    """
    for reader, find in (("judge", _judge_scores), ("discriminator", _discriminator_scores)):
        if (scores := find(sampler, run, image)) is not None:
            return Reading(reader, *_most_likely(sampler.schema, scores))
    return None


def _judge_scores(sampler: Sampler, run: Path, image: np.ndarray) -> np.ndarray | None:
    """Return one logit per label entry, float32 (L,)."""
    if isinstance(sampler.saved, ExportedGenerator):
        return None
    state = sampler.saved.state
    with contextlib.suppress(UserError, ValueError, OSError):  # the dataset has moved, or is of other images
        dataset = Dataset.open(state.config.get("shards") or str(run / "data"))
        if dataset.fingerprint == state.data and (judge := cached_judge(dataset, str(sampler.device))) is not None:
            return judge.logits(image[None])[0]
    return None


def _discriminator_scores(sampler: Sampler, run: Path, image: np.ndarray) -> np.ndarray | None:
    """Return one score per label entry, float32 (L,), of a discriminator that was trained to predict labels."""
    try:
        discriminator = load_discriminator(sampler.saved, sampler.device)
    except UserError as error:
        if error.code == "discriminator-missing":
            return None
        raise
    if not discriminator.conditioning.classifies:
        if not sampler.saved.state.config.get("label_loss"):
            return None
        discriminator.score_labels()
    x = weigh_by_alpha(to_tensor(image[None], sampler.device))
    label, known = x.new_zeros(1, sampler.schema.width), x.new_zeros(1, len(sampler.schema.attributes))
    with torch.no_grad():
        return discriminator(x, label, known)[0, 1:].float().cpu().numpy()


def _most_likely(schema: Schema, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the label of the highest scores, and which attributes can be read."""
    label, read = np.zeros(schema.width, np.float32), np.zeros(len(schema.attributes), bool)
    for a in judgeable_attributes(schema):
        start, attribute = int(schema.starts[a]), schema.attributes[a]
        read[a] = True
        if attribute.kind == "tag":
            label[start] = scores[start] > 0
        else:
            label[start + int(scores[start : start + attribute.width].argmax())] = 1
    return label, read
