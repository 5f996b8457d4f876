"""The labels that an image may have: words that were given, a network's reading, and for the rest the dataset's."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.generation.prompts import Vocabulary


@dataclass(frozen=True)
class Candidates:
    """Labels that an image may have.

    Attributes:
        vocabulary: of the run.
        label: float32 (L,), the entries of settled attributes; the others do not matter.
        settled: bool (A,), the attributes that are known beforehand.
    """

    vocabulary: Vocabulary
    label: np.ndarray
    settled: np.ndarray

    @property
    def open(self) -> list[int]:
        """The attributes that are not settled and whose values can be tried."""
        attributes = self.vocabulary.schema.attributes
        return [i for i, a in enumerate(attributes) if not self.settled[i] and a.kind not in WORDLESS]

    def draw(self, count: int, seed: int) -> Labels:
        """Return labels with the settled entries; the others are those of the dataset, as frequent as there."""
        return self.vocabulary.completed(self.label, self.settled, count, seed)

    def of(self, label: np.ndarray, known: np.ndarray) -> Candidates:
        """Return the candidates of another image, of which the same attributes are settled if its label knows them."""
        return Candidates(self.vocabulary, label, self.settled & known)

    def choices(self, labels: Labels, attribute: int) -> Iterator[Labels]:
        """Yield labels with each value of an attribute in turn; a tag is absent or present."""
        schema = self.vocabulary.schema
        start, width = int(schema.starts[attribute]), schema.attributes[attribute].width
        named = np.arange(len(schema.attributes)) == attribute
        values = np.eye(width) if schema.attributes[attribute].kind == "exclusive" else np.array([[0], [1]])
        for entries in values:
            label = np.zeros(schema.width, np.float32)
            label[start : start + width] = entries
            yield with_entries(schema, labels, label, named)


def with_entries(schema: Schema, labels: Labels, label: np.ndarray, named: np.ndarray) -> Labels:
    """Return labels that have the entries of the named attributes, and are as before otherwise.

    Args:
        labels: n labels.
        label: float32 (L,).
        named: bool (A,).
    """
    entries = np.repeat(named, schema.widths)
    return Labels(np.where(entries, label, labels.label).astype(np.float32), labels.known | named)
