"""Reference images to invert, of which it is known whether the generator can draw them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from shards.core.errors import UserError
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.dataset.image_shape import ImageShape
from shards.dataset.label_rows import Labels, sample_rows
from trainer.generation.generate import generate_images
from trainer.generation.sampler import Sampler
from trainer.noise import normal


def own_drawings(sampler: Sampler, count: int, seed: int) -> Iterator[tuple[np.ndarray, Labels]]:
    """Yield drawings of the generator, uint8 (C, H, W), each with its label, one row: it can draw them exactly."""
    labels = sampler.labels_for("anything", count, seed)
    z = normal(seed, "noise of drawings to invert", torch.arange(count, device=sampler.device), sampler.noise_size)
    images = generate_images(sampler.generator, z, labels)
    for row, image in enumerate(images):
        yield image, Labels(labels.label[row : row + 1], labels.known[row : row + 1])


def open_held_out(where: str, sampler: Sampler, shape: ImageShape) -> Dataset:
    """Open a dataset of images that the generator has not seen.

    Raises:
        UserError: there is none, or its images or labels are others than the generator's.
    """
    dataset = Dataset.open(where)
    if dataset.shape != shape or dataset.schema != sampler.schema:
        raise UserError(
            "wrong-dataset",
            f"--held-out {where}: its images ({dataset.shape} pixels) or labels are not those of the generator "
            f"({shape} pixels); give images that were packed for it",
        )
    return dataset


def dataset_images(dataset: Dataset, count: int, seed: int) -> Iterator[tuple[np.ndarray, Labels]]:
    """Yield random images of a dataset, uint8 (C, H, W), each with its label, one row.

    Raises:
        UserError: an image is damaged.
        Failure: it cannot be read or fetched.
    """
    for sample in sample_rows(len(dataset), min(count, len(dataset)), seed, "images to invert").tolist():
        pixels = np.empty(dataset.shape.pixels_shape, np.uint8)
        try:
            read_pixels(dataset, sample, pixels)
        except ValueError as error:
            raise UserError("damaged-images", f"{dataset.where}, sample {sample}: {error}") from None
        label = Labels(dataset.labels[sample : sample + 1], np.asarray(dataset.known[sample : sample + 1], bool))
        yield pixels.transpose(2, 0, 1), label
