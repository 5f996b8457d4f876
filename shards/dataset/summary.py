"""The summary of a dataset that packing, indexing and describing print."""

from __future__ import annotations

from collections.abc import Iterator, Sized
from dataclasses import dataclass

import numpy as np

from shards.core.problems import Problems
from shards.dataset.dataset import Dataset
from shards.dataset.schema import WORDLESS, Attribute, Schema

_ATTRIBUTES = 40  # shown at most
_VALUES = 24  # shown per attribute at most
_CHUNK = 1 << 25  # bytes of labels read at a time: at most 2 ** 23 rows


@dataclass(frozen=True)
class Tally:
    """Counts over a dataset of N images, L label entries and A attributes.

    Attributes:
        count: N.
        present: int64 (L,), images with each value.
        known: int64 (A,), images in which each attribute is known.
        sums, squares: float64 (L,), sums over the entries of vectors and texts; zeros for words.
        unlabelled: images without any known attribute.
    """

    count: int
    present: np.ndarray
    known: np.ndarray
    sums: np.ndarray
    squares: np.ndarray
    unlabelled: int


def chunks(dataset: Dataset) -> Iterator[slice]:
    """Yield ranges of rows whose labels fit into memory together."""
    step = max(1, _CHUNK // (4 * dataset.schema.width))
    for start in range(0, len(dataset), step):
        yield slice(start, min(start + step, len(dataset)))


def tally(dataset: Dataset) -> Tally:
    """Count the values of all labels, a few rows at a time."""
    schema = dataset.schema
    present, known = np.zeros(schema.width, np.int64), np.zeros(len(schema.attributes), np.int64)
    sums, squares, unlabelled = np.zeros(schema.width), np.zeros(schema.width), 0
    numbers = np.repeat([attribute.kind in WORDLESS for attribute in schema.attributes], schema.widths)
    for rows in chunks(dataset):
        labels, mask = np.asarray(dataset.labels[rows]), np.asarray(dataset.known[rows])
        # A product with ones is ten times as fast as numpy's column sum; float32 counts exactly up to 2 ** 24.
        ones = np.ones(len(labels), np.float32)
        present += (ones @ (labels > 0.5).astype(np.float32)).astype(np.int64)
        known += (ones @ mask.astype(np.float32)).astype(np.int64)
        vectors = labels[:, numbers].astype(np.float64)
        sums[numbers] += vectors.sum(axis=0)
        squares[numbers] += np.square(vectors).sum(axis=0)
        unlabelled += int(np.count_nonzero(~mask.any(axis=1)))
    return Tally(len(dataset), present, known, sums, squares, unlabelled)


def lines(dataset: Dataset, problems: Problems) -> list[str]:
    """Return a heading, a line per attribute (counts of its values and of unknown), and a line per kind of problem."""
    manifest, count, schema = dataset.manifest, len(dataset), dataset.schema
    size = sum(shard["bytes"] for shard in manifest["shards"])
    copied = manifest["copied"]
    if dataset.in_place:
        done = f"indexed {count:,} images in {dataset.path}, to be read at {dataset.shape}{dataset.shape.kind}"
        how = f"{copied:,} images have that size, {count - copied:,} are converted when they are read"
        change = f"edit a copy of {dataset.path / 'schema.yaml'} and index with --schema to change them"
    else:
        done = f"packed {count:,} images of {dataset.shape}{dataset.shape.kind} into {dataset.path}"
        how = f"{copied:,} images copied unchanged, {count - copied:,} converted"
        change = f"edit {dataset.path / 'schema.yaml'} and pack with --schema to change them"
    return [
        done,
        f"  {_count(manifest['shards'], 'shard')}, {size / 1e6:,.1f} MB; {how} ({manifest['resize_policy']})",
        f"  labels: {_count(schema.values, 'word')}, {_count(schema.attributes, 'attribute')} ({change})",
        *label_lines(schema, tally(dataset)),
        *(f"  note: {line}" for line in problems.lines()),
    ]


def _count(things: Sized, name: str) -> str:
    return f"{len(things):,} {name}{'' if len(things) == 1 else 's'}"


def label_lines(schema: Schema, counts: Tally) -> list[str]:
    """Return a line per attribute, and one for unlabelled images."""
    text = []
    for number, attribute in enumerate(schema.attributes[:_ATTRIBUTES]):
        start = int(schema.starts[number])
        part = slice(start, start + attribute.width)
        text.append(f"  {_line(attribute, counts, part, int(counts.known[number]))}")
    if (more := len(schema.attributes) - _ATTRIBUTES) > 0:
        text.append(f"  … and {more:,} more attributes")
    if counts.unlabelled:
        fraction = counts.unlabelled / counts.count
        text.append(f"  images without any label: {counts.unlabelled:,} ({fraction:.1%})")
    return text


def _line(attribute: Attribute, counts: Tally, part: slice, known: int) -> str:
    unknown = counts.count - known
    unknown_text = f"unknown {unknown:,} ({unknown / counts.count:.1%})" if unknown else "all known"
    present = counts.present[part]
    if attribute.kind in WORDLESS:
        return f"{attribute.name}: {_numbers(attribute, counts, part, known)}; {unknown_text}"
    if attribute.kind == "tag":
        return f"{attribute.name}: present {int(present[0]):,}, absent {known - int(present[0]):,}; {unknown_text}"
    noun = f" {attribute.values[0].rpartition(' ')[2]}"
    common = all(value.endswith(noun) for value in attribute.values)
    order = np.argsort(-present, kind="stable")
    shown = [f"{attribute.values[i].removesuffix(noun if common else '')} {int(present[i]):,}" for i in order[:_VALUES]]
    more = f", … {attribute.width - _VALUES} more values" if attribute.width > _VALUES else ""
    return f"{attribute.name}: {', '.join(shown)}{more}; {unknown_text}"


def _numbers(attribute: Attribute, counts: Tally, part: slice, known: int) -> str:
    """Return the size of a vector or text, and the mean and standard deviation of a vector where it is known."""
    what = f"{attribute.kind} of {attribute.size:,} numbers"
    if attribute.kind == "text" or not known:
        return what
    # Entries of unknown rows are zero and add nothing.
    mean = counts.sums[part] / known
    spread = np.sqrt(np.maximum(counts.squares[part] / known - mean**2, 0))
    pairs = [f"{m:.3g} ± {s:.3g}" for m, s in zip(mean[:_VALUES].tolist(), spread[:_VALUES].tolist(), strict=True)]
    return f"{what}, mean ± standard deviation {', '.join(pairs)}{', …' if attribute.size > _VALUES else ''}"
