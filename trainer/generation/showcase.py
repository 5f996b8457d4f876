"""Choose the labels of the sample grids that a run saves while it trains."""

from __future__ import annotations

import numpy as np

from shards.dataset.label_rows import Labels
from shards.dataset.schema import WORDLESS, Schema


def showcase(
    schema: Schema, sampled: Labels, rows: int, columns: int, numbers: np.ndarray | None = None
) -> tuple[Labels, list[str]]:
    """Return the labels of a grid that shows what each label does.

    The rows are the values of the exclusive attribute with the most values; everything else in a label is as sampled
    from the dataset. Without an exclusive attribute, or where labels contain captions that would contradict it, each
    row repeats one label of the dataset.

    Args:
        sampled: at least rows * columns labels of the dataset.
        numbers: the samples that these labels belong to; a label without words is titled by its sample number.

    Returns:
        The labels in row-major order, and one title per row.
    """
    label, known = sampled.label[: rows * columns].copy(), sampled.known[: rows * columns].copy()
    exclusive = [i for i, a in enumerate(schema.attributes) if a.kind == "exclusive"]
    wordless = any(a.kind in WORDLESS for a in schema.attributes)
    if exclusive and not wordless:
        chosen = max(exclusive, key=lambda i: (schema.attributes[i].width, -i))
        start, attribute = int(schema.starts[chosen]), schema.attributes[chosen]
        titles = list(attribute.values[:rows])
        for row, _ in enumerate(titles):
            cells = slice(row * columns, (row + 1) * columns)
            label[cells, start : start + attribute.width] = 0
            label[cells, start + row] = 1
            known[cells, chosen] = True
    else:
        titles = []
        for row in range(rows):
            first = row * columns
            cells = slice(first, first + columns)
            label[cells], known[cells] = label[first], known[first]
            titles.append(_title(schema, label[first], known[first], None if numbers is None else int(numbers[first])))
    end = len(titles) * columns
    return Labels(label[:end], known[:end]), titles


def _title(schema: Schema, label: np.ndarray, known: np.ndarray, number: int | None) -> str:
    if words := schema.words(label, known):
        return ", ".join(words)
    kinds = [a.kind for a, said in zip(schema.attributes, known, strict=True) if said and a.kind in WORDLESS]
    if not kinds or number is None:
        return "(no label)" if not kinds else f"({kinds[0]})"
    return f"{'caption' if 'text' in kinds else 'vector'} of image {number:,}"
