"""Format an evaluation as a table: one row per metric with the value of real images and the meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trainer.reporting.number_format import format_value

_FRACTIONS = ("fidelity", "precision", "recall", "coverage", "memorised")  # of images; shown in per cent
_MEANINGS = {
    "fidelity": "images in which the judge finds every attribute as labelled",
    "fidelity_new": "label accuracy for combinations of values that never occur in the dataset",
    "fid": "Fréchet distance of the features; lower is better",
    "kid": "kernel distance of the features; lower is better, 0 equals real images",
    "kid_by_value": "mean kernel distance within each value; sensitive to whether labels are followed",
    "precision": "generated images inside the manifold of real images",
    "recall": "real images inside the manifold of generated images",
    "density": "density of real images around generated images",
    "coverage": "real images with a generated image nearby",
    "memorised": "images as close to a training image as only 1 % of unseen real images are",
    "copying": "z-score; below -3, closer to the training images than unseen real images are",
    "diversity": "differences between images of one label, relative to those between real images",
}


class Row(NamedTuple):
    """One metric as text."""

    name: str
    generated: str
    real: str
    meaning: str


def rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metrics of an evaluation, an entry of `evaluation_file`, in its order."""
    real = entry.get("real", {})
    for name, figure in entry["figures"].items():
        first, _, attribute = name.partition("/")
        meaning = f"images in which {attribute} is as labelled" if attribute else _MEANINGS.get(name, "")
        yield Row(name, _shown(first, figure), _shown(first, real[name]) if name in real else "", meaning)


def heading(images_seen: int, entry: Mapping[str, Any]) -> str:
    """Describe in one line what was evaluated."""
    text = f"{entry.get('count', 0):,} images at {images_seen:,} images seen, seed {entry.get('seed', 0)}"
    if extractor := entry.get("extractor"):
        negation = "" if extractor.get("comparable") else "not "
        text += f"; features of {extractor['name']} ({negation}comparable with published values)"
        text += f", {entry.get('compared', 0):,} images per side"
    return text


def table(images_seen: int, entry: Mapping[str, Any]) -> str:
    """Return the whole evaluation as text for a terminal."""
    cells = [Row("", "generated", "real", ""), *rows(entry)]
    name, generated, real = (max(len(row[i]) for row in cells) for i in range(3))
    lines = [heading(images_seen, entry), ""]
    lines += [f"{r.name:<{name}}  {r.generated:>{generated}}  {r.real:>{real}}  {r.meaning}".rstrip() for r in cells]
    lines += ["", *(f"note: {note}" for note in entry["notes"])] if entry.get("notes") else []
    return "\n".join(lines)


def _shown(kind: str, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not finite"
    fraction = kind.removesuffix("_new") in _FRACTIONS
    return f"{100 * value:.1f} %" if fraction else format_value(value)
