"""From a generator and labels to pictures, and the choice of labels that a run shows of itself."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from shards.core import rng
from shards.dataset.schema import WORDLESS, Schema
from shards.stream.order import permute

_CHUNK = 128  # pictures drawn at once


class Labels(NamedTuple):
    """Rows of label vectors with their masks."""

    label: np.ndarray  # float32 (n, L), zero where unknown
    known: np.ndarray  # bool (n, A)


@torch.no_grad()
def pictures(generator: nn.Module, z: Tensor, labels: Labels) -> np.ndarray:
    """Draw one picture a row.

    Args:
        generator: in eval mode.
        z: (n, noise) on the generator's device.
        labels: n rows.

    Returns:
        uint8 (n, 3, S, S).
    """
    device, dtype = z.device, next(generator.parameters()).dtype
    label = torch.from_numpy(np.ascontiguousarray(labels.label, np.float32)).to(device, dtype)
    known = torch.from_numpy(np.ascontiguousarray(labels.known, np.float32)).to(device, dtype)
    drawn = []
    for rows in torch.arange(len(z), device=device).split(_CHUNK):
        x = generator(z[rows].to(dtype), label[rows], known[rows])
        drawn.append(((x.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).cpu())
    return torch.cat(drawn).contiguous().numpy()


def sample_rows(total: int, count: int, seed: int, purpose: str) -> np.ndarray:
    """int64 (count,): rows of ``total``, drawn by key, each at most once in every ``total``."""
    epoch, index = np.divmod(np.arange(count, dtype=np.int64), total)
    return permute(rng.bits(rng.key(seed, purpose), epoch), total, index)


def sample_labels(labels: np.ndarray, known: np.ndarray, count: int, seed: int, purpose: str) -> Labels:
    """Labels as the data has them: those of `sample_rows`."""
    rows = sample_rows(len(labels), count, seed, purpose)
    return Labels(np.asarray(labels[rows], np.float32), np.asarray(known[rows], bool))


def showcase(
    schema: Schema, drawn: Labels, rows: int, columns: int, numbers: np.ndarray | None = None
) -> tuple[Labels, list[str]]:
    """Labels for a grid that shows what a label does: each row asks for one thing, the rest is as in the data.

    The rows are the values of the exclusive attribute with the most of them. Without one, and where captions
    would contradict it, each row is one label of the data.

    Args:
        drawn: at least rows·columns labels of the data.
        numbers: the pictures that they belong to; a label without words is called by its picture.

    Returns:
        The labels, row by row, and the rows' titles.
    """
    label, known = drawn.label[: rows * columns].copy(), drawn.known[: rows * columns].copy()
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
    return f"{'caption' if 'text' in kinds else 'vector'} of picture {number:,}"
