"""Format an evaluation as a table: one row per metric with the value of real images and the meaning."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from trainer.evaluation.metrics.registry import Description, describe
from trainer.reporting.marks import explanations, symbols
from trainer.reporting.number_format import format_value
from trainer.run import evaluation_file


class Row(NamedTuple):
    """One metric as text."""

    name: str
    generated: str
    real: str
    meaning: str


def rows(entry: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the metrics of an evaluation, an entry of `evaluation_file`, in its order."""
    real = entry.get("real", {})
    for key, value in entry["figures"].items():
        description = describe(key)
        baseline = _format(description, real[key]) if key in real else ""
        yield Row(key, _format(description, value) + symbols(entry, key), baseline, description.meaning)


def heading(images_seen: int, entry: Mapping[str, Any]) -> str:
    """Describe in one line what was evaluated."""
    text = f"{entry.get('count', 0):,} images at {images_seen:,} images seen, seed {entry.get('seed', 0)}"
    if used := evaluation_file.extractors(entry):
        names = [
            f"{each['name']} ({'' if each.get('comparable') else 'not '}comparable with published values)"
            for each in used
        ]
        text += f"; features of {', and of '.join(names)}, {entry.get('compared', 0):,} images per set"
    return text


def table(images_seen: int, entry: Mapping[str, Any]) -> str:
    """Return the whole evaluation as text for a terminal."""
    cells = [Row("", "generated", "real", ""), *rows(entry)]
    name, generated, real = (max(len(row[i]) for row in cells) for i in range(3))
    lines = [heading(images_seen, entry), ""]
    lines += [f"{r.name:<{name}}  {r.generated:>{generated}}  {r.real:>{real}}  {r.meaning}".rstrip() for r in cells]
    notes = [f"note: {note}" for note in entry.get("notes", [])] + list(explanations(entry))
    return "\n".join([*lines, "", *notes] if notes else lines)


def _format(description: Description, value: float | None) -> str:
    if value is None or not math.isfinite(value):
        return "not finite"
    return f"{100 * value:.1f} %" if description.fraction else format_value(value)
