"""Whether pictures show what their labels say, attribute by attribute, as far as a judge can tell.

The judge is a classifier with accuracies of its own (`trainer.evaluation.judge.judge`). What it sees badly on real
pictures it cannot say of drawn ones either: such an attribute is reported with a doubt, and left out of every sum over
attributes. An attribute of which a label says nothing is not counted.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from shards.dataset.schema import WORDLESS, Attribute, Kind, Schema
from trainer.evaluation.metrics.combinations import Combinations, said

TRUSTED = 0.8  # balanced share of held-out real pictures that a judge must get right to be asked
_WORST, _ROWS = 8, 16  # combinations listed, and pictures of each


def wilson(right: float, count: float, z: float = 1.96) -> tuple[float, float]:
    """The 95 % interval of a share (Wilson 1927), which holds for few pictures and for shares of 0 and 1 too.

    Args:
        right, count: 0 ≤ right ≤ count; whole numbers, or an equivalent number of them.

    Returns:
        Lower and upper end, in [0, 1]; (0, 1) for a count of 0.
    """
    if count <= 0:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = share + spread / 2
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, (middle - half) / (1 + spread)), min(1.0, (middle + half) / (1 + spread))


@dataclass(frozen=True)
class Tally:
    """How many there were, and how many were right."""

    count: int
    right: int

    @property
    def share(self) -> float:
        """In [0, 1]; NaN of nothing."""
        return self.right / self.count if self.count else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """Where the share lies with 95 % confidence, see `wilson`."""
        return wilson(self.right, self.count)


@dataclass(frozen=True)
class AttributeFidelity:
    """What one attribute's labels asked for, and what the judge saw.

    Attributes:
        values: its words in vector order; of a tag ("no WORD", "WORD").
        cells: (asked, shown, pictures) of the confusion matrix, by numbers of ``values``, without empty cells.
        doubt: why the judge's word on it is not to be relied on; "" where it is.
    """

    name: str
    kind: Kind
    values: tuple[str, ...]
    cells: tuple[tuple[int, int, int], ...]
    doubt: str = ""

    @cached_property
    def confusion(self) -> np.ndarray:
        """int64 (V, V): pictures by what was asked (row) and what they show (column)."""
        matrix = np.zeros((len(self.values), len(self.values)), np.int64)
        for asked, shown, pictures in self.cells:
            matrix[asked, shown] = pictures
        return matrix

    @cached_property
    def by_value(self) -> dict[str, Tally]:
        """Of the pictures that were asked to show a value, how many do."""
        matrix = self.confusion
        rows = zip(self.values, matrix.sum(1).tolist(), matrix.diagonal().tolist(), strict=True)
        return {value: Tally(count, right) for value, count, right in rows}

    @property
    def tally(self) -> Tally:
        """Over all pictures of which it is known."""
        tallies = self.by_value.values()
        return Tally(sum(t.count for t in tallies), sum(t.right for t in tallies))

    @property
    def balanced(self) -> float:
        """The mean over values of the share that is right, each value weighing the same; NaN of nothing."""
        shares = [tally.share for tally in self.by_value.values() if tally.count]
        return sum(shares) / len(shares) if shares else math.nan

    @property
    def balanced_interval(self) -> tuple[float, float]:
        """Where the balanced share lies with 95 % confidence: Wilson's interval of the pictures that it is worth.

        The mean of V shares of n₁ … n_V pictures is as uncertain as one share of V² / Σ 1/nᵥ pictures: one value
        with a single picture makes it wide.
        """
        counts = [tally.count for tally in self.by_value.values() if tally.count]
        if not counts:
            return 0.0, 1.0
        worth = len(counts) ** 2 / sum(1 / count for count in counts)
        return wilson(self.balanced * worth, worth)

    @property
    def chance(self) -> float:
        """The balanced share of someone who guesses."""
        return 1 / len(self.values)


@dataclass(frozen=True)
class Combination:
    """Pictures whose labels have these words in common, and which of them are wrong in one or more.

    Attributes:
        rows: numbers of some of the wrong ones, as they were given.
    """

    words: tuple[str, ...]
    tally: Tally
    rows: tuple[int, ...]


@dataclass(frozen=True)
class Fidelity:
    """Whether pictures show what their labels say.

    Attributes:
        attributes: those with words, in the schema's order.
        wordless: vectors and texts, of which nobody can see whether they are right.
        whole: pictures by whether everything that is known of them is right, doubtful attributes left aside.
        worst: pairs of values of exclusive attributes (values, where there is only one) with the fewest right pictures,
            the worst first.
        seen, unseen: as ``whole``, for exclusive attributes in combinations that the data has, and that it has not;
            None where combinations were not given, or nothing can be combined.
    """

    attributes: tuple[AttributeFidelity, ...]
    wordless: tuple[str, ...]
    whole: Tally
    worst: tuple[Combination, ...] = field(default=())
    seen: Tally | None = None
    unseen: Tally | None = None

    def __getitem__(self, name: str) -> AttributeFidelity:
        """An attribute by its name."""
        return next(a for a in self.attributes if a.name == name)

    def to_json(self) -> dict[str, Any]:
        """Plain values; shares, which follow from the counts, are there for readers."""
        content = asdict(self)
        for plain, attribute in zip(content["attributes"], self.attributes, strict=True):
            plain["share"], plain["balanced"] = _number(attribute.tally.share), _number(attribute.balanced)
        return content

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Fidelity:
        """What `to_json` wrote.

        Raises:
            KeyError, TypeError, ValueError: it is something else.
        """
        return Fidelity(
            tuple(_attribute_from(entry) for entry in content["attributes"]),
            tuple(map(str, content["wordless"])),
            Tally(**content["whole"]),
            tuple(
                Combination(tuple(c["words"]), Tally(**c["tally"]), tuple(map(int, c["rows"])))
                for c in content["worst"]
            ),
            *(None if content[key] is None else Tally(**content[key]) for key in ("seen", "unseen")),
        )


def weakness(real: AttributeFidelity) -> str:
    """Why a judge with this result on held-out real pictures is not to be asked about the attribute; "" if it may be.

    It may where its balanced share is 0.8 or more, and that is no luck: with 95 % confidence better than halfway
    from guessing to always right.
    """
    if not real.tally.count:
        return "no held-out picture has it"
    missing = [value for value, tally in real.by_value.items() if not tally.count]
    if len(missing) * 2 >= len(real.values):
        return f"held-out pictures show only {len(real.values) - len(missing)} of its {len(real.values)} values"
    low, high = real.balanced_interval
    if real.balanced < TRUSTED:
        small = "" if high < TRUSTED else f", in only {real.tally.count} pictures"
        return f"the judge sees it in {real.balanced:.0%} of real pictures{small}"
    if low < (1 + real.chance) / 2:
        return f"{real.tally.count} held-out pictures are too few to tell how well the judge sees it"
    return ""


def judgeable(schema: Schema) -> list[int]:
    """The attributes of which one can see whether a picture has them: those with words, and a choice between two."""
    return [
        a
        for a, attribute in enumerate(schema.attributes)
        if attribute.kind == "tag" or (attribute.kind == "exclusive" and attribute.width > 1)
    ]


def fidelity(
    schema: Schema,
    logits: np.ndarray,
    label: np.ndarray,
    known: np.ndarray,
    *,
    real: Fidelity | None = None,
    seen: Combinations | None = None,
) -> Fidelity:
    """Hold what a judge sees in N pictures against their labels.

    Args:
        logits: float (N, L): of an exclusive attribute the largest entry is what is shown; a tag is shown if its
            entry is above 0.
        label: float (N, L) label vectors of zeros and ones.
        known: bool (N, A): what is not known is not counted.
        real: the judge's result on held-out real pictures, from which doubts follow; left out: no doubts.
        seen: combinations of the data that the generator learned from, for ``seen`` and ``unseen``.

    Raises:
        ValueError: the shapes do not fit the schema.
    """
    shapes = (len(logits), schema.width), (len(logits), schema.width), (len(logits), len(schema.attributes))
    if (logits.shape, label.shape, known.shape) != shapes:
        raise ValueError(f"logits {logits.shape}, label {label.shape}, known {known.shape} do not fit the schema")
    asked, shown = {}, {}
    found = []
    for a in judgeable(schema):
        asked[a], shown[a] = said(schema, a, label, known), _shown(schema, a, logits)
        doubt = weakness(real[schema.attributes[a].name]) if real is not None else ""
        found.append(_confusion(schema.attributes[a], asked[a], shown[a], doubt))
    trusted = [a for a, result in zip(asked, found, strict=True) if not result.doubt]
    exclusive = [a for a in trusted if schema.attributes[a].kind == "exclusive"]
    old = unseen = None
    if seen is not None and seen.groups:
        new, enough = seen.unseen(label, known)
        old, unseen = (_tally(exclusive, asked, shown, enough & part) for part in (~new, new))
    return Fidelity(
        attributes=tuple(found),
        wordless=tuple(a.name for a in schema.attributes if a.kind in WORDLESS),
        whole=_tally(trusted, asked, shown, np.ones(len(logits), bool)),
        worst=_worst(schema, exclusive, asked, shown),
        seen=old,
        unseen=unseen,
    )


def _shown(schema: Schema, a: int, logits: np.ndarray) -> np.ndarray:
    """The number of the value that each picture shows, int64 (N,)."""
    start = int(schema.starts[a])
    if schema.attributes[a].kind == "tag":
        return (logits[:, start] > 0).astype(np.int64)
    return logits[:, start : start + schema.attributes[a].width].argmax(1)


def _confusion(attribute: Attribute, asked: np.ndarray, shown: np.ndarray, doubt: str) -> AttributeFidelity:
    values = attribute.values if attribute.kind != "tag" else (f"no {attribute.values[0]}", attribute.values[0])
    counted = asked >= 0
    codes, pictures = np.unique(asked[counted] * len(values) + shown[counted], return_counts=True)
    cells = zip((codes // len(values)).tolist(), (codes % len(values)).tolist(), pictures.tolist(), strict=True)
    return AttributeFidelity(attribute.name, attribute.kind, values, tuple(cells), doubt)


def _tally(
    attributes: Sequence[int], asked: Mapping[int, np.ndarray], shown: Mapping[int, np.ndarray], among: np.ndarray
) -> Tally:
    """Of some pictures, those that are right in all of the attributes that are known of them (one or more)."""
    counted, right = np.zeros(len(among), bool), among.copy()
    for a in attributes:
        counted |= asked[a] >= 0
        right &= (asked[a] < 0) | (asked[a] == shown[a])
    return Tally(int((among & counted).sum()), int((right & counted).sum()))


def _worst(
    schema: Schema, attributes: Sequence[int], asked: Mapping[int, np.ndarray], shown: Mapping[int, np.ndarray]
) -> tuple[Combination, ...]:
    """The combinations that are surely bad: those whose share's interval has the lowest upper end."""
    candidates = []
    for group in [tuple(attributes)] if len(attributes) == 1 else itertools.combinations(attributes, 2):
        widths = [schema.attributes[a].width for a in group]
        rows = np.flatnonzero(np.all([asked[a] >= 0 for a in group], axis=0))
        wrong = np.any([asked[a][rows] != shown[a][rows] for a in group], axis=0)
        code = np.ravel_multi_index([asked[a][rows] for a in group], widths)
        codes, place, counts = np.unique(code, return_inverse=True, return_counts=True)
        missed = np.bincount(place[wrong], minlength=len(codes))
        for at in np.flatnonzero(missed).tolist():
            values = np.unravel_index(int(codes[at]), widths)
            words = tuple(schema.attributes[a].values[int(v)] for a, v in zip(group, values, strict=True))
            candidates.append((Tally(int(counts[at]), int(counts[at] - missed[at])), words, group))
    candidates.sort(key=lambda found: (found[0].interval[1], -found[0].count, found[1]))
    worst = []
    for tally, words, group in candidates[:_WORST]:
        among = [(a, schema.attributes[a].values.index(word)) for a, word in zip(group, words, strict=True)]
        here = np.all([asked[a] == value for a, value in among], axis=0)
        wrong = here & np.any([shown[a] != value for a, value in among], axis=0)
        worst.append(Combination(words, tally, tuple(np.flatnonzero(wrong)[:_ROWS].tolist())))
    return tuple(worst)


def _attribute_from(entry: Mapping[str, Any]) -> AttributeFidelity:
    values = tuple(map(str, entry["values"]))
    cells = tuple((int(asked), int(shown), int(pictures)) for asked, shown, pictures in entry["cells"])
    if any(not (0 <= a < len(values) and 0 <= s < len(values) and n > 0) for a, s, n in cells):
        raise ValueError(f"{entry['name']}: a cell outside its matrix")
    return AttributeFidelity(str(entry["name"]), entry["kind"], values, cells, str(entry["doubt"]))


def _number(share: float) -> float | None:
    return None if math.isnan(share) else round(share, 6)  # JSON has no NaN
