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
        label: float32 (L,), the entries of the attributes that are named or read; the others do not matter.
        named: bool (A,), the attributes that were given by words; they stay as they are.
        read: bool (A,), the attributes that a network read; it may be wrong, so that other values are tried.
    """

    vocabulary: Vocabulary
    label: np.ndarray
    named: np.ndarray
    read: np.ndarray

    @property
    def open(self) -> list[int]:
        """The attributes that are not named and whose values can be tried."""
        attributes = self.vocabulary.schema.attributes
        return [i for i, a in enumerate(attributes) if not self.named[i] and a.kind not in WORDLESS]

    def draw(self, count: int, seed: int) -> Labels:
        """Return labels with the named entries, and the first, third, … with the read entries too.

        The remaining entries are those of the dataset, as frequent as there.
        """
        free = self.vocabulary.completed(self.label, self.named, count, seed)
        as_read = self.vocabulary.completed(self.label, self.named | self.read, count, seed)
        every_other = (np.arange(count) % 2 == 0)[:, None]
        return Labels(*(np.where(every_other, *pair) for pair in zip(as_read, free, strict=True)))

    def of(self, label: np.ndarray, known: np.ndarray) -> Candidates:
        """Return the candidates of another image, of which the same is named and read as far as its label knows it."""
        return Candidates(self.vocabulary, label, self.named & known, self.read & known)

    def contradicts(self, labels: Labels, attribute: int) -> np.ndarray:
        """Return which labels, bool (n,), have another value of an attribute than what was read, if it was."""
        start, width = int(self.vocabulary.schema.starts[attribute]), self.vocabulary.schema.widths[attribute]
        entries = slice(start, start + width)
        differs = (labels.label[:, entries] != self.label[entries]).any(1) | ~labels.known[:, attribute]
        return differs & self.read[attribute]

    def misread(self, labels: Labels) -> list[str]:
        """Return the words that were read, and which a label, one row, contradicts; "no hat" for an absent tag."""
        schema = self.vocabulary.schema
        wrong = np.array([bool(self.contradicts(labels, a)[0]) for a in range(len(schema.attributes))])
        words = schema.words(self.label, wrong)
        tags = [a.values[0] for a, said in zip(schema.attributes, wrong, strict=True) if said and a.kind == "tag"]
        return [*words, *(f"no {tag}" for tag in tags if tag not in words)]

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
