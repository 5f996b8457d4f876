"""What an evaluation shows: label combinations that fail most, generated pictures beside their nearest real ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from shards.dataset.dataset import Dataset
from trainer.evaluation.metrics.fidelity import Combination
from trainer.evaluation.metrics.novelty import Novelty
from trainer.evaluation.metrics.real_features import pictures
from trainer.generation import image_grid

_COLUMNS, _NEAREST = 8, 8

# Numbers of generated pictures, int64 (n,) -> these pictures, uint8 (n, 3, S, S).
Redraw = Callable[[np.ndarray], np.ndarray]


def worst(combinations: Sequence[Combination], redraw: Redraw) -> Image.Image | None:
    """A row a combination: pictures that should show it and do not; None if there are none."""
    shown = [found for found in combinations if found.rows]
    if not shown:
        return None
    rows, titles = [], []
    for found in shown:
        drawn = redraw(np.array(found.rows[:_COLUMNS]))
        blank = np.full((_COLUMNS - len(drawn), *drawn.shape[1:]), 255, np.uint8)
        rows.append(np.concatenate([drawn, blank]))
        titles.append(f"{', '.join(found.words)}: {found.tally.right} of {found.tally.count} right")
    return image_grid.grid(np.concatenate(rows), _COLUMNS, titles)


def nearest(novelty: Novelty, redraw: Redraw, dataset: Dataset, training: np.ndarray) -> Image.Image:
    """The generated pictures that come nearest to training pictures, each with the training pictures nearest to it.

    Args:
        training: int64 (T,), which picture of the data set each row of the training features is of.

    Raises:
        Failure: a remote training picture cannot be fetched; a damaged one is white.
    """
    chosen = np.argsort(novelty.distances[:, 0], kind="stable")[:_NEAREST]
    drawn, near = redraw(chosen), training[novelty.rows[chosen]]
    rows = [np.concatenate([one[None], pictures(dataset, each)[0]]) for one, each in zip(drawn, near, strict=True)]
    titles = [f"distance {novelty.distances[row, 0]:.3g}" for row in chosen]
    columns = ["generated", *(f"training {n}" for n in range(1, near.shape[1] + 1))]
    return image_grid.grid(np.concatenate(rows), len(columns), titles, columns)


def folder(run: Path) -> Path:
    """Where a run's evaluations leave pictures."""
    return run / "evaluation"


def path(run: Path, images_seen: int, name: str) -> Path:
    """The file of one picture of a checkpoint's newest evaluation."""
    return folder(run) / f"{images_seen:012d}-{name}.png"
