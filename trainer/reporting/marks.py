"""Marks of figures that share something with what taught the run: a symbol, and what it means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# By the name in ``evaluation.json``: the symbol behind a value, and the sentence that explains it.
MARKS: dict[str, tuple[str, str]] = {
    "training-images": (
        "*",
        "compared with images of the training, to which a copy of them comes closest: see memorised and copying, or "
        "give other images with --shards",
    ),
    "teaching-network": (
        "†",
        "measured in features of a network that took part in the training, which biases the value",
    ),
    "taught-labels": (
        "‡",
        "judged by a classifier of the images whose labels the run's own classifier learned, so both may err alike; "
        "judges learn from a validation part instead if it has 1,000 images (cgan pack --validation)",
    ),
}


def symbols(entry: Mapping[str, Any], key: str) -> str:
    """Return the symbols of a figure of an entry of `evaluation_file`; "" if it shares nothing."""
    return "".join(MARKS[mark][0] for mark in entry.get("marks", {}).get(key, ()) if mark in MARKS)


def explanations(entry: Mapping[str, Any]) -> Sequence[str]:
    """Return what the symbols of an entry mean, one sentence each."""
    used = {mark for marks in entry.get("marks", {}).values() for mark in marks}
    return [f"{symbol} {meaning}" for mark, (symbol, meaning) in MARKS.items() if mark in used]
