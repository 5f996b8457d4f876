"""The attributes that a phrase asks for, and a judge's reading of them in images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from shards.dataset.schema import Schema
from trainer.evaluation.metrics.combinations import label_values
from trainer.evaluation.metrics.label_accuracy import judgeable_attributes


class Reading(NamedTuple):
    """A judge's reading of some attributes in n images."""

    values: np.ndarray  # int64 (n, k): numbers of the values, as those of `label_values`
    certainty: np.ndarray  # float64 (n,): the judge's probability that all of them are right, if they are independent


@dataclass(frozen=True)
class Request:
    """The words of a phrase that a judge can look for.

    Attributes:
        schema: of the labels.
        values: index of an attribute -> the number of the value asked for; 1 (present) or 0 (absent) for a tag.
        unchecked: names of the attributes that the phrase names and no judge can see: captions and vectors.
    """

    schema: Schema
    values: Mapping[int, int]
    unchecked: tuple[str, ...] = ()

    @classmethod
    def of(cls, schema: Schema, label: np.ndarray, named: np.ndarray) -> Request:
        """Return the request of a phrase.

        Args:
            label: float32 (L,), its label.
            named: bool (A,), the attributes that it names; the others are not checked.
        """
        judgeable = judgeable_attributes(schema)
        values = {a: int(label_values(schema, a, label[None], named[None])[0]) for a in judgeable if named[a]}
        unchecked = [a.name for number, a in enumerate(schema.attributes) if named[number] and number not in values]
        return cls(schema, values, tuple(unchecked))

    @property
    def attributes(self) -> tuple[int, ...]:
        """The indices of the attributes asked for."""
        return tuple(self.values)

    @property
    def words(self) -> tuple[str, ...]:
        """The words asked for, such as ("blue hair", "no hat")."""
        return tuple(self._word(a, value) for a, value in self.values.items())

    def shown(self, reading: Reading) -> np.ndarray:
        """Return in which images a judge sees every word asked for, bool (n,)."""
        return (reading.values == np.array(list(self.values.values()), np.int64)).all(1)

    def certainty(self, logits: np.ndarray) -> np.ndarray:
        """Return a judge's probability of every word asked for, float64 (n,); 0 where it does not see one.

        Args:
            logits: calibrated, float32 (n, L), see `Judge.logits`.
        """
        found = read(self.schema, self.attributes, logits)
        return np.where(self.shown(found), found.certainty, 0.0)

    def _word(self, a: int, value: int) -> str:
        attribute = self.schema.attributes[a]
        if attribute.kind == "tag":
            return attribute.values[0] if value else f"no {attribute.values[0]}"
        return attribute.values[value]


def read(schema: Schema, attributes: tuple[int, ...], logits: np.ndarray) -> Reading:
    """Return the most probable value of each attribute, and the product of their probabilities.

    Args:
        attributes: indices of exclusive attributes and tags.
        logits: calibrated, float32 (n, L).
    """
    values = np.zeros((len(logits), len(attributes)), np.int64)
    surprise = np.zeros(len(logits))  # -log of the probability
    for column, a in enumerate(attributes):
        start = int(schema.starts[a])
        entries = logits[:, start : start + schema.attributes[a].width].astype(np.float64)
        if schema.attributes[a].kind == "tag":
            values[:, column] = entries[:, 0] > 0
            surprise += np.log1p(np.exp(-np.abs(entries[:, 0])))
        else:
            values[:, column] = entries.argmax(1)
            surprise += np.log(np.exp(entries - entries.max(1, keepdims=True)).sum(1))
    return Reading(values, np.exp(-surprise))
