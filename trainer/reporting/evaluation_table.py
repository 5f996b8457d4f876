"""An evaluation as people read it: a row a figure, that of real pictures beside it, and what it means."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trainer.reporting.curves import readable

_SHARES = ("fidelity", "precision", "recall", "coverage", "memorised")  # of pictures, shown in per cent
_MEANINGS = {
    "fidelity": "pictures in which all that the judge can see is as the label says",
    "fidelity_new": "the same, of labels that combine values which never met in the data",
    "fid": "Fréchet distance of the features; lower is better",
    "kid": "kernel distance of the features; lower is better, 0 is as good as real ones",
    "kid_by_value": "the mean of such distances within each value: sees whether labels are followed",
    "precision": "generated pictures that lie among the real ones",
    "recall": "real pictures that lie among the generated ones",
    "density": "how thickly real pictures lie around generated ones",
    "coverage": "real pictures with a generated one near them",
    "memorised": "pictures as near to a training picture as only 1 % of new real ones would be",
    "copying": "z-score: under -3, nearer to training pictures than new real ones are",
    "diversity": "how much pictures of one label differ, over how much real ones do",
}


class Row(NamedTuple):
    """One figure in words."""

    name: str
    figure: str
    real: str
    meaning: str


def rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """The figures of an evaluation, as `evaluations.add` takes it, in its order."""
    real = entry.get("real", {})
    for name, figure in entry["figures"].items():
        first, _, attribute = name.partition("/")
        meaning = f"pictures whose {attribute} is as the label says" if attribute else _MEANINGS.get(name, "")
        yield Row(name, _shown(first, figure), _shown(first, real[name]) if name in real else "", meaning)


def heading(images_seen: int, entry: Mapping[str, Any]) -> str:
    """What was evaluated, in one line."""
    text = f"{entry.get('count', 0):,} pictures from {images_seen:,} images seen, seed {entry.get('seed', 0)}"
    if extractor := entry.get("extractor"):
        papers = "comparable with papers" if extractor.get("comparable") else "not comparable with papers' figures"
        text += f"; features of {extractor['name']} ({papers}), {entry.get('compared', 0):,} pictures a side"
    return text


def table(images_seen: int, entry: Mapping[str, Any]) -> str:
    """The whole evaluation for a terminal."""
    cells = [Row("", "generated", "real", ""), *rows(entry)]
    name, figure, real = (max(len(row[i]) for row in cells) for i in range(3))
    lines = [heading(images_seen, entry), ""]
    lines += [f"{r.name:<{name}}  {r.figure:>{figure}}  {r.real:>{real}}  {r.meaning}".rstrip() for r in cells]
    lines += ["", *(f"note: {note}" for note in entry["notes"])] if entry.get("notes") else []
    return "\n".join(lines)


def _shown(kind: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not finite"
    share = kind.removesuffix("_new") in _SHARES
    return f"{100 * value:.1f} %" if share else readable(value)
