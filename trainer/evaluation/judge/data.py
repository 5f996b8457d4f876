"""The labelled images that a judge is trained, tuned and tested on: which images, and which part each belongs to.

The part is determined by a hash of the pixels, so that all copies of an image are in one part. If the dataset has a
validation part, which keeps whole groups apart, the judge is tested on that.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from shards.core import rng
from shards.core.errors import Failure, UserError
from shards.core.permutation import permute
from shards.dataset.dataset import Dataset
from shards.dataset.decode import read_pixels
from shards.dataset.image_shape import ImageShape
from shards.dataset.manifest import MANIFEST
from trainer.evaluation.metrics.appearance import visible
from trainer.evaluation.metrics.combinations import label_values
from trainer.evaluation.metrics.label_accuracy import judgeable_attributes

MAX_IMAGES = 20_000  # read from a dataset of any size
MAX_SIDE = 64  # pixels: larger images are halved until they fit
_MIN_IMAGES = 16
_RARE_VALUE_QUOTA = 200  # images of a value to read, if chance brings fewer

Progress = Callable[[int], None]  # called with the number of further images read


@dataclass(frozen=True)
class LabelledImages:
    """Labelled images in memory.

    Attributes:
        images: uint8 (n, C, h, w), as `visible` and `shrink` make them.
        label: float32 (n, L).
        known: bool (n, A).
    """

    images: np.ndarray
    label: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: np.ndarray) -> LabelledImages:
        """Return some of them, by index."""
        return LabelledImages(self.images[rows], self.label[rows], self.known[rows])


@dataclass(frozen=True)
class Split:
    """Three disjoint sets of images, and the number of damaged images left out.

    Attributes:
        train: for training.
        tune: for early stopping and the temperatures.
        held_out: for the judge's accuracy.
    """

    train: LabelledImages
    tune: LabelledImages
    held_out: LabelledImages
    damaged: int


def shrunk(shape: ImageShape) -> ImageShape:
    """Return the shape that a judge sees: halved, as far as both sides are even, until the longer is 64 or less."""
    while shape.size > MAX_SIDE and shape.height % 2 == shape.width % 2 == 0:
        shape = ImageShape(shape.channels, shape.height // 2, shape.width // 2)
    return shape


def shrink(images: np.ndarray) -> np.ndarray:
    """Average squares of pixels, rounded: uint8 (n, C, H, W) of a shape -> that of its `shrunk`."""
    n, channels, height, width = images.shape
    small = shrunk(ImageShape(channels, height, width))
    factor = height // small.height
    if factor == 1:
        return images
    squares = images.reshape(n, channels, small.height, factor, small.width, factor)
    area = factor * factor
    return ((squares.sum((3, 5), dtype=np.uint32) + area // 2) // area).astype(np.uint8)


def validation_part(dataset: Dataset) -> Dataset | None:
    """Return the validation part of a local dataset; None if it has none."""
    folder = dataset.path / "validation"
    if dataset.remote or not (folder / MANIFEST).is_file():
        return None
    part = Dataset.open(folder)
    return part if (part.schema, part.shape) == (dataset.schema, dataset.shape) else None


def load_split(dataset: Dataset, validation: Dataset | None, seed: int, progress: Progress) -> Split:
    """Read up to `MAX_IMAGES` labelled images and split them; about a tenth is held out (more if there are few).

    Args:
        validation: the validation part, from which held-out images are taken; None: from the dataset itself.
        seed: determines which images are read, and their parts.
        progress: called for each image.

    Raises:
        UserError: too few images have labels that can be judged.
        Failure: the images cannot be read.
    """
    images, digests = _read(dataset, choose_rows(dataset, MAX_IMAGES, seed), seed, progress)
    damaged, held_out = digests.count(b""), None
    intact, hashes = _intact(images, digests)
    if validation is not None and len(rows := choose_rows(validation, MAX_IMAGES // 5, seed)):
        images, validation_digests = _read(validation, rows, seed, progress)
        damaged += validation_digests.count(b"")
        known_digests = set(digests)
        held_out, _ = _intact(images, [b"" if digest in known_digests else digest for digest in validation_digests])
        held_out = held_out if len(held_out) else None
    if len(intact) < _MIN_IMAGES:
        raise UserError(
            "too-few-images",
            f"{dataset.where}: {len(intact)} labelled images could be read, and a judge needs at least {_MIN_IMAGES}",
        )
    first, second, rest = _split_by_hash(intact, hashes, held_out is None)
    split = Split(rest, second, first if held_out is None else held_out, damaged)
    if not all(map(len, (split.train, split.tune, split.held_out))):
        raise UserError("too-few-images", f"{dataset.where}: nearly all labelled images are copies of one image")
    return split


def _split_by_hash(images: LabelledImages, hashes: np.ndarray, hold_out: bool) -> list[LabelledImages]:
    """Return three parts: held-out images (next to none unless ``hold_out``), images to tune on, and the rest."""
    few = max(len(images) // 10, min(100, len(images) // 4))
    ends = np.sort(hashes)[[few, 2 * few]] if hold_out else np.sort(hashes)[[0, few]]
    parts = np.searchsorted(ends, hashes, side="right")  # copies of an image have the same hash
    return [images.part(np.flatnonzero(parts == number)) for number in range(3)]


def choose_rows(dataset: Dataset, most: int, seed: int) -> np.ndarray:
    """Return indices of labelled images to read, int64, ascending: up to ``most``, and some more of rare values.

    Of a remote dataset whole shards are taken, as few as suffice, and no further images of rare values.
    """
    schema, known = dataset.schema, np.asarray(dataset.known)
    attributes = judgeable_attributes(schema)
    labelled = np.flatnonzero(known[:, attributes].any(1))
    if len(labelled) <= most:
        return labelled
    base = rng.key(seed, "pictures to judge by")
    if dataset.remote:
        labelled = _in_few_shards(dataset, labelled, most, base)
    rows = labelled[permute(base, len(labelled), np.arange(len(labelled)))]
    chosen = [rows[:most]]
    if not dataset.remote:
        label, known = dataset.labels[rows], dataset.known[rows]
        quota = min(_RARE_VALUE_QUOTA, most // (4 * schema.width))
        chosen += [rows[_first_of_each(label_values(schema, a, label, known), quota)] for a in attributes]
    return np.unique(np.concatenate(chosen))[: 2 * most]


def _in_few_shards(dataset: Dataset, rows: np.ndarray, most: int, base: int) -> np.ndarray:
    """Return those of the rows that are in a few random shards, which together have at least ``most`` of them."""
    shard = np.asarray(dataset.entries["shard"][rows], np.int64)
    shards, counts = np.unique(shard, return_counts=True)
    drawn = permute(base, len(shards), np.arange(len(shards)))
    enough = int(np.searchsorted(np.cumsum(counts[drawn]), most)) + 1
    return rows[np.isin(shard, shards[drawn[:enough]])]


def _first_of_each(values: np.ndarray, quota: int) -> np.ndarray:
    """Return the positions of the first ``quota`` occurrences of each value ≥ 0."""
    by_value = np.argsort(values, kind="stable")
    ordered = values[by_value]
    occurrence = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return by_value[(occurrence < quota) & (ordered >= 0)]


def _read(dataset: Dataset, rows: np.ndarray, seed: int, progress: Progress) -> tuple[LabelledImages, list[bytes]]:
    """Return images, and a keyed hash of the pixels of each; b"" for a damaged one."""
    small = shrunk(dataset.shape)
    images = np.zeros((len(rows), small.channels, small.height, small.width), np.uint8)
    digests: list[bytes] = []
    buffer = np.empty(dataset.shape.pixels_shape, np.uint8)
    secret = str(seed).encode()
    for out, row in zip(images, rows.tolist(), strict=True):
        digest = b""
        try:
            read_pixels(dataset, row, buffer)
            out[:] = shrink(visible(buffer.transpose(2, 0, 1)[None]))[0]
            digest = hashlib.blake2b(out.tobytes(), digest_size=8, key=secret).digest()
        except ValueError:
            pass
        except Failure:
            if dataset.remote:  # a lost server, or a full disk
                raise
        digests.append(digest)
        progress(1)
    return LabelledImages(images, np.asarray(dataset.labels[rows]), np.asarray(dataset.known[rows], bool)), digests


def _intact(images: LabelledImages, digests: list[bytes]) -> tuple[LabelledImages, np.ndarray]:
    """Return the images that have a hash, and their hashes as numbers, uint64."""
    rows = np.array([i for i, digest in enumerate(digests) if digest], np.int64)
    return images.part(rows), np.array([int.from_bytes(digest, "big") for digest in digests if digest], np.uint64)
