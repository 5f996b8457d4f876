"""Label accuracy: whether images show what their labels say, per attribute, as far as a judge can tell.

The judge (`trainer.evaluation.judge.judge`) is a classifier that makes mistakes itself. An attribute that it recognises
badly in real images cannot be scored in generated ones: it is reported with a doubt and left out of every aggregate.
Attributes that a label leaves unknown are not counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np

from shards.dataset.schema import WORDLESS, Attribute, Kind, Schema
from trainer.evaluation.metrics.combinations import Combinations, label_values

MIN_JUDGE_ACCURACY = 0.8  # balanced accuracy on held-out real images below which the judge is not trusted
_MAX_WORST, _MAX_ROWS = 8, 16  # combinations listed, and images listed for each


def wilson_interval(right: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """Return the 95 % confidence interval of a proportion (Wilson 1927), valid for small counts and for 0 and 1.

    Args:
        right: successes, 0 ≤ right ≤ count; may be fractional (an effective number).
        count: trials; may be fractional.

    Returns:
        Lower and upper end, in [0, 1]; (0, 1) for a count of 0.
    """
    if count <= 0:
        return 0.0, 1.0
    fraction, spread = right / count, z * z / count
    centre = fraction + spread / 2
    half = z * math.sqrt(fraction * (1 - fraction) / count + spread / (4 * count))
    return max(0.0, (centre - half) / (1 + spread)), min(1.0, (centre + half) / (1 + spread))


@dataclass(frozen=True)
class Tally:
    """A count of images, and how many of them are right."""

    count: int
    right: int

    @property
    def fraction(self) -> float:
        """Return the fraction that is right, in [0, 1]; NaN if the count is 0."""
        return self.right / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the fraction, see `wilson_interval`."""
        return wilson_interval(self.right, self.count)


@dataclass(frozen=True)
class AttributeAccuracy:
    """The confusion matrix of one attribute: values of the labels against values that the judge recognised.

    Attributes:
        name: the attribute's name.
        kind: "exclusive" or "tag".
        values: the attribute's words in vector order; for a tag ("no WORD", "WORD").
        cells: non-empty cells of the matrix: (value in the label, value shown, images), values as indices.
        doubt: why the judge is not trusted on this attribute; "" if it is.
    """

    name: str
    kind: Kind
    values: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]
    doubt: str = ""

    @cached_property
    def confusion(self) -> np.ndarray:
        """Return the matrix, int64 (V, V): values in labels (rows) by values shown (columns)."""
        matrix = np.zeros((len(self.values), len(self.values)), np.int64)
        for expected, shown, images in self.cells:
            matrix[expected, shown] = images
        return matrix

    @cached_property
    def by_value(self) -> dict[str, Tally]:
        """Return for each value the images whose label has it, and how many show it."""
        matrix = self.confusion
        rows = zip(self.values, matrix.sum(1).tolist(), matrix.diagonal().tolist(), strict=True)
        return {value: Tally(count, right) for value, count, right in rows}

    @property
    def tally(self) -> Tally:
        """Return the tally of all images in which the attribute is known."""
        tallies = self.by_value.values()
        return Tally(sum(t.count for t in tallies), sum(t.right for t in tallies))

    @property
    def balanced(self) -> float:
        """Return the balanced accuracy: the mean over values of the fraction right; NaN if there are no images."""
        fractions = [tally.fraction for tally in self.by_value.values() if tally.count]
        return sum(fractions) / len(fractions) if fractions else math.nan

    @property
    def balanced_interval(self) -> tuple[float, float]:
        """Return the 95 % confidence interval of the balanced accuracy: Wilson's, for the effective number of images.

        The mean of V fractions of n₁ … n_V images is as uncertain as one fraction of V² / Σ 1/nᵥ images, so a single
        value with one image makes the interval wide.
        """
        counts = [tally.count for tally in self.by_value.values() if tally.count]
        if not counts:
            return 0.0, 1.0
        effective = len(counts) ** 2 / sum(1 / count for count in counts)
        return wilson_interval(self.balanced * effective, effective)

    @property
    def chance(self) -> float:
        """Return the balanced accuracy of guessing."""
        return 1 / len(self.values)


@dataclass(frozen=True)
class Combination:
    """Images whose labels share these words.

    Attributes:
        words: the values that the labels share.
        tally: the images, and how many show all of these values.
        rows: indices of some of the images that do not.
    """

    words: tuple[str, ...]
    tally: Tally
    rows: tuple[int, ...]


@dataclass(frozen=True)
class LabelAccuracy:
    """Label accuracy of a set of images.

    Attributes:
        attributes: results per attribute that can be judged, in the schema's order.
        wordless: names of vector and text attributes, which cannot be judged.
        whole: all images; right if every known attribute is right, attributes with a doubt left aside.
        worst: pairs of values of exclusive attributes (single values if there is one attribute) with the lowest
            accuracy, the worst first.
        seen: as ``whole``, for exclusive attributes in combinations that the dataset has; None if no combinations
            were given or nothing can be combined.
        unseen: the same, for combinations that the dataset does not have.
    """

    attributes: tuple[AttributeAccuracy, ...]
    wordless: tuple[str, ...]
    whole: Tally
    worst: tuple[Combination, ...] = field(default=())
    seen: Tally | None = None
    unseen: Tally | None = None

    def __getitem__(self, name: str) -> AttributeAccuracy:
        """Return an attribute's result by name."""
        return next(a for a in self.attributes if a.name == name)

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the fractions, which follow from the counts, are included for readers."""
        content = asdict(self)
        for plain, attribute in zip(content["attributes"], self.attributes, strict=True):
            plain["share"], plain["balanced"] = _json_number(attribute.tally.fraction), _json_number(attribute.balanced)
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> LabelAccuracy:
        """Read what `to_json` returned.

        Raises:
            KeyError, TypeError, ValueError: the content is malformed.
        """
        return LabelAccuracy(
            tuple(_attribute_from_json(entry) for entry in content["attributes"]),
            tuple(map(str, content["wordless"])),
            Tally(**content["whole"]),
            tuple(
                Combination(tuple(c["words"]), Tally(**c["tally"]), tuple(map(int, c["rows"])))
                for c in content["worst"]
            ),
            *(None if content[key] is None else Tally(**content[key]) for key in ("seen", "unseen")),
        )


def reason_to_doubt(accuracy: AttributeAccuracy) -> str:
    """Return why a judge with this result on held-out real images is not trusted on the attribute; "" if it is.

    It is trusted if its balanced accuracy is at least 0.8 and, with 95 % confidence, better than halfway from chance
    to perfect.
    """
    if not accuracy.tally.count:
        return "no held-out image has it"
    missing = [value for value, tally in accuracy.by_value.items() if not tally.count]
    if len(missing) * 2 >= len(accuracy.values):
        present = len(accuracy.values) - len(missing)
        return f"held-out images show only {present} of its {len(accuracy.values)} values"
    low, high = accuracy.balanced_interval
    if accuracy.balanced < MIN_JUDGE_ACCURACY:
        few = "" if high < MIN_JUDGE_ACCURACY else f", measured on only {accuracy.tally.count} images"
        return f"the judge recognises it in {accuracy.balanced:.0%} of real images{few}"
    if low < (1 + accuracy.chance) / 2:
        return f"{accuracy.tally.count} held-out images are too few to tell how well the judge recognises it"
    return ""


def judgeable_attributes(schema: Schema) -> list[int]:
    """Return the indices of the attributes that can be judged: tags, and exclusive attributes of two values or more."""
    return [
        a
        for a, attribute in enumerate(schema.attributes)
        if attribute.kind == "tag" or (attribute.kind == "exclusive" and attribute.width > 1)
    ]


def label_accuracy(
    schema: Schema,
    logits: np.ndarray,
    label: np.ndarray,
    known: np.ndarray,
    *,
    real: LabelAccuracy | None = None,
    seen: Combinations | None = None,
) -> LabelAccuracy:
    """Compare the judge's logits of N images with their labels.

    Args:
        logits: float (N, L): an exclusive attribute's largest entry is the value shown; a tag is shown if its entry is
            above 0.
        label: float (N, L) label vectors of zeros and ones.
        known: bool (N, A): unknown attributes are not counted.
        real: the judge's result on held-out real images, from which doubts follow; None: no doubts.
        seen: combinations in the data that the generator was trained on, for ``seen`` and ``unseen``.

    Raises:
        ValueError: the shapes do not fit the schema.
    """
    shapes = (len(logits), schema.width), (len(logits), schema.width), (len(logits), len(schema.attributes))
    if (logits.shape, label.shape, known.shape) != shapes:
        raise ValueError(f"logits {logits.shape}, label {label.shape}, known {known.shape} do not fit the schema")
    judged = judgeable_attributes(schema)
    values = _Values(
        expected={a: label_values(schema, a, label, known) for a in judged},
        shown={a: _shown_values(schema, a, logits) for a in judged},
    )
    attributes = [_attribute_accuracy(schema.attributes[a], values, a, real) for a in judged]
    trusted = [a for a, result in zip(judged, attributes, strict=True) if not result.doubt]
    exclusive = [a for a in trusted if schema.attributes[a].kind == "exclusive"]
    old = unseen = None
    if seen is not None and seen.groups:
        new, decidable = seen.unseen(label, known)
        old, unseen = (values.tally(exclusive, decidable & part) for part in (~new, new))
    return LabelAccuracy(
        attributes=tuple(attributes),
        wordless=tuple(a.name for a in schema.attributes if a.kind in WORDLESS),
        whole=values.tally(trusted, np.ones(len(logits), bool)),
        worst=_worst(schema, exclusive, values),
        seen=old,
        unseen=unseen,
    )


class _Values(NamedTuple):
    """Values of N images by attribute index: what the label says (-1: unknown), and what the judge recognised."""

    expected: dict[int, np.ndarray]
    shown: dict[int, np.ndarray]

    def tally(self, attributes: Sequence[int], among: np.ndarray) -> Tally:
        """Count the images in ``among``, bool (N,), that are right in all attributes known of them (one or more)."""
        counted, right = np.zeros(len(among), bool), among.copy()
        for a in attributes:
            counted |= self.expected[a] >= 0
            right &= (self.expected[a] < 0) | (self.expected[a] == self.shown[a])
        return Tally(int((among & counted).sum()), int((right & counted).sum()))


def _shown_values(schema: Schema, a: int, logits: np.ndarray) -> np.ndarray:
    """Return the index of the value that each image shows, int64 (N,)."""
    start = int(schema.starts[a])
    if schema.attributes[a].kind == "tag":
        return (logits[:, start] > 0).astype(np.int64)
    return logits[:, start : start + schema.attributes[a].width].argmax(1)


def _attribute_accuracy(attribute: Attribute, images: _Values, a: int, real: LabelAccuracy | None) -> AttributeAccuracy:
    expected, shown = images.expected[a], images.shown[a]
    values = attribute.values if attribute.kind != "tag" else (f"no {attribute.values[0]}", attribute.values[0])
    counted = expected >= 0
    codes, counts = np.unique(expected[counted] * len(values) + shown[counted], return_counts=True)
    cells = zip((codes // len(values)).tolist(), (codes % len(values)).tolist(), counts.tolist(), strict=True)
    doubt = reason_to_doubt(real[attribute.name]) if real is not None else ""
    return AttributeAccuracy(attribute.name, attribute.kind, values, tuple(cells), doubt)


def _worst(schema: Schema, attributes: Sequence[int], images: _Values) -> tuple[Combination, ...]:
    """Return the combinations that are certainly bad: those whose confidence interval has the lowest upper end."""
    groups = [tuple(attributes)] if len(attributes) == 1 else itertools.combinations(attributes, 2)
    candidates = [candidate for group in groups for candidate in _failing(schema, group, images)]
    candidates.sort(key=lambda found: (found[0].interval[1], -found[0].count, found[1]))
    worst = []
    for tally, words, group in candidates[:_MAX_WORST]:
        values = [(a, schema.attributes[a].values.index(word)) for a, word in zip(group, words, strict=True)]
        labelled = np.all([images.expected[a] == value for a, value in values], axis=0)
        wrong = labelled & np.any([images.shown[a] != value for a, value in values], axis=0)
        worst.append(Combination(words, tally, tuple(np.flatnonzero(wrong)[:_MAX_ROWS].tolist())))
    return tuple(worst)


def _failing(
    schema: Schema, group: tuple[int, ...], images: _Values
) -> Iterator[tuple[Tally, tuple[str, ...], tuple[int, ...]]]:
    """Yield (tally, words, group) of each combination of the group's values that at least one image does not show."""
    widths = [schema.attributes[a].width for a in group]
    rows = np.flatnonzero(np.all([images.expected[a] >= 0 for a in group], axis=0))
    wrong = np.any([images.expected[a][rows] != images.shown[a][rows] for a in group], axis=0)
    code = np.ravel_multi_index([images.expected[a][rows] for a in group], widths)
    codes, inverse, counts = np.unique(code, return_inverse=True, return_counts=True)
    missed = np.bincount(inverse[wrong], minlength=len(codes))
    for index in np.flatnonzero(missed).tolist():
        values = np.unravel_index(int(codes[index]), widths)
        words = tuple(schema.attributes[a].values[int(v)] for a, v in zip(group, values, strict=True))
        yield Tally(int(counts[index]), int(counts[index] - missed[index])), words, group


def _attribute_from_json(entry: Mapping[str, Any]) -> AttributeAccuracy:
    values = tuple(map(str, entry["values"]))
    cells = tuple((int(expected), int(shown), int(images)) for expected, shown, images in entry["cells"])
    if any(not (0 <= e < len(values) and 0 <= s < len(values) and n > 0) for e, s, n in cells):
        raise ValueError(f"{entry['name']}: a cell is outside its confusion matrix")
    return AttributeAccuracy(str(entry["name"]), entry["kind"], values, cells, str(entry["doubt"]))


def _json_number(fraction: float) -> float | None:
    return None if math.isnan(fraction) else round(fraction, 6)  # JSON has no NaN
