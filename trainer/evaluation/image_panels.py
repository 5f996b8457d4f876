"""Panels: grids of generated and real images that an evaluation saves for people to look at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from trainer.evaluation.metrics.measurements import Panel
from trainer.generation import image_grid

# Indices int64 (n,) -> images uint8 (n, C, H, W).
ReadImages = Callable[[np.ndarray], np.ndarray]


def draw(panel: Panel, generated: ReadImages, real: ReadImages) -> Image.Image:
    """Draw a panel: in each row the generated images, then the real ones, padded with white.

    Args:
        generated, real: return images by their indices in `Measurements.generated` and `Measurements.real`.

    Raises:
        Failure: a remote real image cannot be fetched.
    """
    of_rows = [len(row.generated) for row in panel.rows], [len(row.real) for row in panel.rows]
    drawn = _read(generated, [row.generated for row in panel.rows])
    shown = _read(real, [row.real for row in panel.rows])
    columns = max(map(sum, zip(*of_rows, strict=True)))
    cells = []
    for one, other in zip(drawn, shown, strict=True):
        images = np.concatenate([part for part in (one, other) if len(part)])
        cells += [images, np.full((columns - len(images), *images.shape[1:]), 255, np.uint8)]
    titles = [row.title for row in panel.rows]
    return image_grid.grid(np.concatenate(cells), columns, titles, list(panel.column_titles))


def _read(read: ReadImages, rows: list) -> list[np.ndarray]:
    """Read the images of all rows at once; return them row by row."""
    numbers = np.array([number for row in rows for number in row], np.int64)
    images = read(numbers) if len(numbers) else np.empty((0, 3, 0, 0), np.uint8)
    return np.split(images, np.cumsum([len(row) for row in rows])[:-1])


def directory(run: Path) -> Path:
    """Return the directory of a run's panels."""
    return run / "evaluation"


def path(run: Path, images_seen: int, name: str) -> Path:
    """Return the file of a panel of a checkpoint's newest evaluation."""
    return directory(run) / f"{images_seen:012d}-{name}.png"
