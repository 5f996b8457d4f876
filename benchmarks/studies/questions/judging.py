"""Evaluate the images of a run: whether they match their labels, and how diverse they are.

Every checkpoint of every run generates images for the same labels, with noise drawn in the same way. The judge is
trained on real images, and its accuracy on held-out ones is reported with the results.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import trainer.generation.sampler
from questions.data import ENCODER, OTHER_SENTENCES, SENTENCES, sentences
from questions.figures import OTHERWISE, RIGHT, VARIETY, Figures
from shards import text_encoders
from shards.core import rng
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.dataset.label_rows import Labels, sample_rows
from trainer.evaluation.judge.judge import Judge, judge_of
from trainer.evaluation.metrics.label_accuracy import label_accuracy
from trainer.generation.sampler import Sampler


@dataclass(frozen=True)
class Examiner:
    """The judge, and what it has images drawn for: two a label, whose distance is held against that of real ones.

    Attributes:
        labels: of ``2 n`` images, each twice in a row, as the labelled data has them.
        real: mean of ‖a - b‖² over as many pairs of real images a, b of those labels; pixels in [0, 255].
        phrasings: what they are asked by where labels are sentences, by the name of the figures; encoded.
    """

    judge: Judge
    labels: Labels
    real: float
    phrasings: dict[str, Labels]

    def examine(self, sampler: Sampler) -> Figures:
        """Generate images for the labels and evaluate them.

        Returns:
            "right: ATTRIBUTE", the share of images that show their label in it, for each; the same for the
            other sentences, where labels are sentences; "variety", the ratio of root mean squared distances within
            one label, drawn to real.
        """
        asked = self.phrasings if sampler.vocabulary.text is not None else {RIGHT: self.labels}
        figures: Figures = {}
        for name, labels in asked.items():
            images = sampler.generate(labels, seed=1)
            found = label_accuracy(self.judge.schema, self.judge.logits(images), *self.labels)
            figures |= {f"{name}: {a.name}": a.tally.fraction for a in found.attributes}
            if name == RIGHT:
                figures[VARIETY] = math.sqrt(_distance(images[::2], images[1::2]) / self.real)
        return figures

    @property
    def own(self) -> Figures:
        """Return the judge's accuracy on held-out real images, by attribute."""
        return {a.name: a.tally.fraction for a in self.judge.accuracy.attributes}


def examiner(labelled: Dataset, count: int, *, captions: bool, cache: Path) -> Examiner:
    """A judge of the labelled images, with ``count`` labels to ask for (half as many, each twice).

    Args:
        labelled: exclusive attributes, all known.
        captions: whether sentences are to be asked for too, which takes the text encoder.
        cache: folder for the judge, which is trained once.
    """
    rows, partners = pairs(np.asarray(labelled.labels), count // 2)
    real = _distance(_read(labelled, rows), _read(labelled, partners))
    twice = np.repeat(rows, 2)
    labels = Labels(np.asarray(labelled.labels[twice], np.float32), np.asarray(labelled.known[twice], bool))
    phrasings = dict(_phrasings(labelled, rows)) if captions else {}
    return Examiner(judge_of(labelled, cache=cache), labels, real, phrasings)


def _read(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return some images, uint8 (n, S, S, 3)."""
    images = np.empty((len(rows), dataset.size, dataset.size, 3), np.uint8)
    for row, out in zip(rows.tolist(), images, strict=True):
        read_pixels(dataset, row, out)
    return images


def pairs(labels: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images, and for each another one of the same label; labels that only one image has are left out.

    Args:
        labels: (N, L).

    Returns:
        Two int64 (count,): numbers of images, drawn by key.
    """
    _, kind, sizes = np.unique(labels, axis=0, return_inverse=True, return_counts=True)
    kind = kind.reshape(-1)
    several = np.flatnonzero(sizes[kind] > 1)
    rows = several[sample_rows(len(several), count, 1, "what the judge asks for")]
    draws = rng.bits(rng.key(1, "another picture of the label"), np.arange(count, dtype=np.int64))
    partners = np.empty_like(rows)
    for place, (row, draw) in enumerate(zip(rows, draws, strict=True)):
        alike = np.flatnonzero(kind == kind[row])
        others = alike[alike != row]
        partners[place] = others[rng.below(len(others), draw)]
    return rows, partners


def _phrasings(labelled: Dataset, rows: np.ndarray) -> Iterator[tuple[str, Labels]]:
    """Return the labels of some images as sentences, each twice: worded as in the data, and differently."""
    schema = labelled.schema
    # A label's words in the order in which the faces' tags name them: hair colour, hair length, eyes.
    order = ("hair", "hair (long/short/tied)", "eyes")
    names = [attribute.name for attribute in schema.attributes]
    tags = []
    for row in rows:
        words = dict(zip(names, schema.words(labelled.labels[row], labelled.known[row]), strict=True))
        tags.append(", ".join(words[name] for name in order))
    for name, forms in ((RIGHT, SENTENCES), (OTHERWISE, OTHER_SENTENCES)):
        vectors = text_encoders.load(ENCODER).encode(sentences(tags, forms, "sentence to ask by"))
        yield name, Labels(np.repeat(vectors, 2, axis=0), np.ones((2 * len(rows), 1), bool))


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    """Return the mean of ‖a - b‖² over pairs of images uint8 (n, 3, S, S), or (n, S, S, 3)."""
    return float(np.square(one.astype(np.float64) - other).sum(axis=(1, 2, 3)).mean())


def checkpoints(run: Path) -> list[int]:
    """Return the images seen at a run's checkpoints, oldest first."""
    folder = run / "checkpoints"
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit()) if folder.exists() else []


def examine(run: Path, examiner: Examiner, known: dict[int, Figures]) -> dict[int, Figures]:
    """Return the metrics of every checkpoint of a run; known results are reused."""
    return {
        seen: known.get(seen) or examiner.examine(trainer.generation.sampler.load(run, str(seen), device="cpu"))
        for seen in checkpoints(run)
    }
