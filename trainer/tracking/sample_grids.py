"""The sample grids of a run: the same noise and the same labels each time."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import nn

from shards.dataset.dataset import Dataset
from shards.dataset.label_rows import Labels, sample_rows
from trainer.config import Config
from trainer.generation import image_grid
from trainer.generation.generate import generate_images
from trainer.generation.showcase import showcase
from trainer.noise import normal

_ROWS, _COLUMNS = 8, 8
_COUNTED = 4096  # labels of the dataset, of which the rows are the most frequent values


class Grid(NamedTuple):
    """A sample grid: its file, its images uint8 (N, C, H, W) row by row, and the words of each row."""

    path: Path
    images: np.ndarray
    titles: list[str]

    def rows(self) -> list[tuple[str, Image.Image]]:
        """Return the words and the images of each row."""
        strips = self.images.reshape(len(self.titles), _COLUMNS, *self.images.shape[1:])
        return [(words, image_grid.grid(strip, _COLUMNS)) for words, strip in zip(self.titles, strips, strict=True)]


class SampleGrids:
    """Draws the grids of one run.

    Args:
        folder: where the images are written, named by images seen.
        config: the options of the run.
        dataset: provides the labels.
        device: of the generator.

    Attributes:
        titles: one per row.
    """

    def __init__(self, folder: Path, config: Config, dataset: Dataset, device: torch.device) -> None:
        self.folder = folder
        rows = sample_rows(
            len(dataset), max(_ROWS * _COLUMNS, min(_COUNTED, len(dataset))), config.seed, "labels of the grid"
        )
        sampled = Labels(dataset.labels[rows], dataset.known[rows])
        self.labels, self.titles = showcase(dataset.schema, sampled, _ROWS, _COLUMNS, rows)
        positions = torch.arange(len(self.labels.label), device=device)
        self.z = normal(config.seed, "noise of the grid", positions, config.network.noise_size)

    def draw(self, images_seen: int, generator: nn.Module) -> Grid:
        """Generate the images of a grid, write it, and return it.

        Raises:
            Failure: it cannot be written.
        """
        images = generate_images(generator, self.z, self.labels)
        path = grid_path(self.folder, images_seen)
        image_grid.save(image_grid.grid(images, _COLUMNS, row_titles=self.titles), path, captions=self.titles)
        return Grid(path, images, self.titles)


def grid_path(folder: Path, images_seen: int) -> Path:
    """Return the path of the grid at ``images_seen``."""
    return folder / f"{images_seen:012d}.png"
