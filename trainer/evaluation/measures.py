"""From what was seen in pictures to figures, each with that of real pictures beside it.

A figure alone says little: a Fréchet distance of 8 may be perfect at one count of pictures and poor at another, and a
judge that is wrong in 20 % of real pictures finds 20 % of perfect ones wrong. So everything here is measured twice.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shards.core.errors import UserError
from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.evaluation.metrics.distances import NEIGHBOURS, Moments, frechet, kernel, kernel_by_value, mean_of, support
from trainer.evaluation.metrics.fidelity import AttributeFidelity, Fidelity
from trainer.evaluation.metrics.novelty import QUANTILE, Novelty, copying, diversity
from trainer.evaluation.metrics.pairwise import checked, nearest

METRICS = ("fidelity", "fid", "kid", "prdc", "novelty", "diversity")
_SUPPORT = ("precision", "recall", "density", "coverage")
_DOUBTS_NAMED = 8
_NEAR = 3  # training pictures named for each generated one
_TRIED = 2000  # training pictures whose own distances say what is usual


@dataclass
class Findings:
    """What an evaluation found.

    Attributes:
        figures: of generated pictures, by name.
        real: the same of real pictures, where there is such a thing.
        notes: sentences that a reader must know.
        details: plain values for whoever looks closer.
    """

    figures: dict[str, float] = field(default_factory=dict)
    real: dict[str, float] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)

    def add(self, name: str, figure: float, real: float | None = None) -> None:
        """Take a figure, and that of real pictures; what came to no number is noted, as JSON has none for it."""
        if not math.isfinite(figure):
            self.notes.append(f"{name} is left out: it cannot be told from these pictures")
            return
        self.figures[name] = float(figure)
        if real is not None and math.isfinite(real):
            self.real[name] = float(real)


@dataclass(frozen=True)
class Seen:
    """Features of pictures with the labels that they have, or were asked for: (n, F) and n rows."""

    features: np.ndarray
    labels: Labels

    def first(self, count: int) -> Seen:
        """The first of them."""
        return Seen(self.features[:count], Labels(*(part[:count] for part in self.labels)))


def obedience(found: Fidelity, judged: Fidelity, into: Findings) -> None:
    """Whether pictures show their labels, by attribute.

    Args:
        found: of generated pictures.
        judged: the judge's own, on real pictures that it did not learn from.
    """
    doubted = [attribute for attribute in found.attributes if attribute.doubt]
    for attribute in doubted[:_DOUBTS_NAMED]:
        into.notes.append(f"fidelity of {attribute.name} is left out: {attribute.doubt}")
    if (more := len(doubted) - _DOUBTS_NAMED) > 0:
        into.notes.append(f"fidelity of {more:,} more attributes is left out, for reasons of that kind")
    for attribute in found.attributes:
        if not attribute.doubt and attribute.tally.count:
            into.add(f"fidelity/{attribute.name}", _share(attribute), _share(judged[attribute.name]))
    if found.whole.count and len(doubted) < len(found.attributes):
        into.add("fidelity", found.whole.share, judged.whole.share if not doubted else None)
    into.details |= {"fidelity": found.to_json(), "judge": judged.to_json()}


def _share(attribute: AttributeFidelity) -> float:
    """Of pictures that are right in it. Of a tag, present and absent weigh the same: who never draws one that is rare
    would be right in almost all of them."""
    return attribute.balanced if attribute.kind == "tag" else attribute.tally.share


def combined(found: Fidelity, into: Findings) -> None:
    """Whether pictures show combinations that the data lack, if the judge sees two or more of the attributes in them.

    Args:
        found: of pictures generated from such labels.
    """
    if sum(a.kind == "exclusive" and not a.doubt for a in found.attributes) < 2:
        into.notes.append("fidelity_new is left out: a combination takes two attributes that the judge sees")
        return
    into.add("fidelity_new", found.whole.share)
    into.details["fidelity_new"] = {"count": found.whole.count, "right": found.whole.right}


def distances(schema: Schema, generated: Seen, real: Seen, other: Seen, asked: Collection[str], into: Findings) -> None:
    """Distances between distributions: of generated pictures from real ones, and of other real ones from those.

    Args:
        generated, real, other: n of each, at least 2; no picture is in ``real`` and in ``other``.
        asked: some of `METRICS`.

    Raises:
        UserError: too few pictures, or numbers that are not finite.
    """
    x, y, z = real.features, generated.features, other.features
    if "fid" in asked:
        reference = Moments.of(x)
        found = frechet(reference, Moments.of(y))
        into.add("fid", found.value, frechet(reference, Moments.of(z)).value)
        into.notes += [found.remark] if found.remark else []
    if "kid" in asked:
        found, floor = kernel(x, y), kernel(x, z)
        into.add("kid", found.mean, floor.mean)
        into.details["kid_std"] = {"figure": found.std, "real": floor.std}
        _by_value(schema, generated, real, other, into)
    if "prdc" in asked and min(len(x), len(y), len(z)) <= NEIGHBOURS:
        into.notes.append(f"precision and recall are left out: they need more than {NEIGHBOURS} pictures a side")
    elif "prdc" in asked:
        found, floor = support(x, y), support(x, z)
        for name in _SUPPORT:
            into.add(name, getattr(found, name), getattr(floor, name))


def _by_value(schema: Schema, generated: Seen, real: Seen, other: Seen, into: Findings) -> None:
    """The kernel distance within each value, and its mean."""
    entries = np.repeat([a.kind not in WORDLESS for a in schema.attributes], schema.widths)
    if not entries.any():
        return
    has = [seen.labels.label[:, entries] > 0.5 for seen in (real, generated, other)]
    found = kernel_by_value(real.features, has[0], generated.features, has[1])
    floor = kernel_by_value(real.features, has[0], other.features, has[2])
    if (mean := mean_of(found)) is None:
        into.notes.append("no value has enough pictures for a distance of its own; raise --count")
        return
    into.add("kid_by_value", mean, mean_of(floor))
    into.details["kid_by_value"] = {
        value: {"figure": f and f.mean, "real": r and r.mean}
        for value, f, r in zip(schema.values, found, floor, strict=True)
        if f is not None
    }


def newness(generated: np.ndarray, training: np.ndarray, into: Findings) -> Novelty:
    """Whether generated pictures are training pictures again.

    What is usual between different pictures is taken from the training pictures themselves, each against all others: a
    new picture of the same kind would lie as far from them. (Meehan et al. 2020 hold pictures out for it, which a run
    that has seen them all cannot.)

    Args:
        generated, training: features (N, F), (T, F), with T at least 2.

    Raises:
        UserError: numbers that are not finite.
    """
    x, t = checked(generated, "generated picture"), checked(training, "training picture")
    found, rows = nearest(x, t, min(_NEAR, len(t)))
    usual = nearest(t[:_TRIED], t, 2)[0][:, 1]  # the first is the picture itself, at distance 0
    threshold = float(np.quantile(usual, QUANTILE))
    if threshold == 0:
        into.notes.append("some training pictures stand twice, so only exact copies of them count as memorised")
    memorised = float((found[:, 0] <= threshold).mean())
    result = Novelty(found, rows, threshold, QUANTILE, memorised, copying(found[:, 0], usual))
    into.add("memorised", memorised, QUANTILE)
    into.add("copying", result.copying, 0.0)
    return result


def variety(generated: Seen, real: Seen, into: Findings) -> None:
    """How much pictures of one label differ, over how much real ones do: near 0 where a label always draws the same."""
    rows = [np.concatenate(seen.labels, 1) for seen in (generated, real)]
    _, numbers = np.unique(np.concatenate(rows), axis=0, return_inverse=True)
    split = np.split(numbers.reshape(-1), [len(rows[0])])
    try:
        found = diversity(generated.features, split[0], real.features, split[1])
    except UserError as error:
        into.notes.append(f"diversity is left out: {error}")
        return
    into.add("diversity", found.ratio, 1.0)
    into.details["diversity"] = {"figure": found.generated, "real": found.real, "labels": found.labels}
