"""What a data set holds, in words: the lines that packing ends with."""

from __future__ import annotations

import numpy as np

from shards.index import Dataset
from shards.schema import Attribute
from shards.sources import Problems

_ATTRIBUTES = 40  # with a line of their own
_VALUES = 24  # named in a line


def lines(dataset: Dataset, problems: Problems) -> list[str]:
    """A heading, one line an attribute (values with counts, how many unknown), one line a kind of problem."""
    manifest, count = dataset.manifest, len(dataset)
    size = sum(shard["bytes"] for shard in manifest["shards"])
    copied = manifest["copied"]
    text = [
        f"packed {count:,} pictures of {dataset.size} x {dataset.size} into {dataset.path}",
        f"  {len(manifest['shards']):,} shards, {size / 1e6:,.1f} MB; {copied:,} pictures copied as they were, "
        f"{count - copied:,} converted ({manifest['resize_policy']})",
        f"  labels: {dataset.schema.width} words, {len(dataset.schema.attributes)} attributes "
        f"(edit {dataset.path / 'schema.yaml'} and pack with --schema to change them)",
    ]
    there = np.add.reduce(dataset.labels, axis=0, dtype=np.int64)
    known = np.add.reduce(dataset.known, axis=0, dtype=np.int64)
    for number, attribute in enumerate(dataset.schema.attributes[:_ATTRIBUTES]):
        start = int(dataset.schema.starts[number])
        text.append("  " + _line(attribute, there[start : start + attribute.width], int(known[number]), count))
    if (more := len(dataset.schema.attributes) - _ATTRIBUTES) > 0:
        text.append(f"  … and {more:,} more attributes")
    if unlabelled := int(np.count_nonzero(~dataset.known.any(axis=1))):
        text.append(f"  pictures without any label: {unlabelled:,} ({unlabelled / count:.1%})")
    return text + [f"  note: {line}" for line in problems.lines()]


def _line(attribute: Attribute, there: np.ndarray, known: int, count: int) -> str:
    unknown = f"unknown {count - known:,} ({(count - known) / count:.1%})" if known < count else "all known"
    if attribute.kind == "tag":
        return f"{attribute.name}: there {int(there[0]):,}, not there {known - int(there[0]):,}; {unknown}"
    noun = f" {attribute.values[0].rpartition(' ')[2]}"
    common = all(value.endswith(noun) for value in attribute.values)
    order = np.argsort(-there, kind="stable")
    shown = [f"{attribute.values[i].removesuffix(noun if common else '')} {int(there[i]):,}" for i in order[:_VALUES]]
    more = f", … {attribute.width - _VALUES} more values" if attribute.width > _VALUES else ""
    return f"{attribute.name}: {', '.join(shown)}{more}; {unknown}"
