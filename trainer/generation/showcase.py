"""Choose the labels of the sample grids that a run saves while it trains."""

from __future__ import annotations

import numpy as np

from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema
from trainer.generation.co_occurrence import compatible


def showcase(
    schema: Schema, labels: Labels, rows: int, columns: int, numbers: np.ndarray | None = None
) -> tuple[Labels, list[str]]:
    """Return the labels of a grid that shows what each label does.

    The rows are the values of the exclusive attribute with the most values, or the most frequent ones in the order of
    the schema; everything else in a label is sampled from the dataset, and goes with the value
    (`trainer.generation.co_occurrence`). Without an exclusive attribute, or where labels contain captions that would
    contradict it, each row repeats one label of the dataset.

    Args:
        labels: at least rows * columns labels sampled from the dataset; the first are shown, all are counted.
        numbers: the samples that these labels belong to; a label without words is titled by its sample number.

    Returns:
        The labels in row-major order, and one title per row.
    """
    exclusive = [i for i, a in enumerate(schema.attributes) if a.kind == "exclusive"]
    if exclusive and not any(a.kind in WORDLESS for a in schema.attributes):
        return _values(schema, labels, max(exclusive, key=lambda i: (schema.widths[i], -i)), rows, columns)
    shown = [Labels(*(np.repeat(part[row * columns][None], columns, axis=0) for part in labels)) for row in range(rows)]
    titles = [
        _title(schema, row.label[0], row.known[0], None if numbers is None else int(numbers[n * columns]))
        for n, row in enumerate(shown)
    ]
    return Labels(*map(np.concatenate, zip(*shown, strict=True))), titles


def _values(schema: Schema, labels: Labels, chosen: int, rows: int, columns: int) -> tuple[Labels, list[str]]:
    """Return the labels and titles of the most frequent values of an exclusive attribute."""
    entries = slice(int(schema.starts[chosen]), int(schema.starts[chosen]) + schema.widths[chosen])
    named = np.arange(len(schema.attributes)) == chosen
    values = np.sort(np.argsort(-labels.label[:, entries].sum(axis=0), kind="stable")[:rows]).tolist()
    found = []
    for row, value in enumerate(values):
        asked = np.zeros(schema.width, np.float32)
        asked[entries][value] = 1
        cells = np.arange(row * columns, (row + 1) * columns)
        fits = compatible(schema, labels, asked, named)
        if fits.any():
            cells = np.where(fits[cells], cells, np.resize(np.flatnonzero(fits), columns))
        label = labels.label[cells]
        label[:, entries] = asked[entries]
        found.append(Labels(label, labels.known[cells] | named))
    return Labels(*map(np.concatenate, zip(*found, strict=True))), [schema.attributes[chosen].values[v] for v in values]


def _title(schema: Schema, label: np.ndarray, known: np.ndarray, number: int | None) -> str:
    if words := schema.words(label, known):
        return ", ".join(words)
    kinds = [a.kind for a, said in zip(schema.attributes, known, strict=True) if said and a.kind in WORDLESS]
    if not kinds or number is None:
        return "(no label)" if not kinds else f"({kinds[0]})"
    return f"{'caption' if 'text' in kinds else 'vector'} of image {number:,}"
