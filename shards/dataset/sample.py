"""One sample of a dataset, decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from shards.core.errors import Failure
from shards.dataset.decode import read_pixels
from shards.dataset.images import from_pixels

if TYPE_CHECKING:
    from shards.dataset.dataset import Dataset


@dataclass(frozen=True)
class Sample:
    """One image of a dataset with its label.

    Attributes:
        image: of the dataset's shape: RGB, RGBA or L (grey); ``numpy.asarray(image)`` is uint8 (H, W, 3), (H, W, 4) or
            (H, W).
        words: the values that the label names, such as ("blue hair", "long hair"); empty if there are none.
        label: float32 (L,), the label vector; zero where unknown.
        known: bool (A,), which attributes are known.
        id: index of the sample in the dataset.
    """

    image: Image.Image
    words: tuple[str, ...]
    label: np.ndarray
    known: np.ndarray
    id: int


def load_sample(dataset: Dataset, index: int) -> Sample:
    """Read and decode the sample at ``index``, in [0, N).

    Raises:
        Failure: the image is damaged, or its shard cannot be read or fetched.
    """
    pixels = np.empty(dataset.shape.pixels_shape, np.uint8)
    try:
        read_pixels(dataset, index, pixels)
    except ValueError as error:
        raise Failure("image-damaged", f"{dataset.where}: sample {index:,} cannot be decoded ({error})") from None
    label, known = dataset.labels[index], np.array(dataset.known[index])
    return Sample(from_pixels(pixels), tuple(dataset.schema.words(label, known)), label, known, index)
