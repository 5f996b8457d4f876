"""The labelled pictures that a judge learns from and is tried on: which of a data set, and on which side.

A picture's side is decided by a hash of its pixels, so that copies of a picture are all on one side, wherever they lie.
 Where the data set has a validation part, which keeps whole groups apart, that is what the judge is tried on.
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
from shards.dataset.manifest import MANIFEST
from trainer.evaluation.metrics.combinations import said
from trainer.evaluation.metrics.fidelity import judgeable

MOST = 20_000  # pictures looked at, of however many
LARGEST_SIDE = 64  # pixels: larger pictures are halved until they are no larger
_LEAST = 16  # pictures
_EXTRA = 200  # pictures of a value that are looked for beyond those that chance brings

Progress = Callable[[int], None]  # is told how many more pictures are done


@dataclass(frozen=True)
class Pictures:
    """Labelled pictures in memory.

    Attributes:
        images: uint8 (n, 3, s, s), made small by `shrink`.
        label, known: float32 (n, L), bool (n, A).
    """

    images: np.ndarray
    label: np.ndarray
    known: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def part(self, rows: np.ndarray) -> Pictures:
        """Some of them."""
        return Pictures(self.images[rows], self.label[rows], self.known[rows])


@dataclass(frozen=True)
class Sides:
    """Three sets without a picture in common: to learn from, to know when to stop, and to be tried on."""

    learn: Pictures
    tune: Pictures
    held_out: Pictures
    damaged: int


def factor(size: int) -> int:
    """By how much pictures are shrunk: the least power of two that leaves 64 pixels or fewer, as far as one divides."""
    by = 1
    while size // by > LARGEST_SIDE and size % (2 * by) == 0:
        by *= 2
    return by


def shrink(images: np.ndarray, by: int) -> np.ndarray:
    """uint8 (n, 3, S, S) -> (n, 3, S/by, S/by): the rounded means of squares."""
    if by == 1:
        return images
    n, channels, size, _ = images.shape
    squares = images.reshape(n, channels, size // by, by, size // by, by)
    return ((squares.sum((3, 5), dtype=np.uint32) + by * by // 2) // (by * by)).astype(np.uint8)


def validation_part(dataset: Dataset) -> Dataset | None:
    """The pictures that were set aside when a local data set was packed, if any were."""
    folder = dataset.path / "validation"
    if dataset.remote or not (folder / MANIFEST).is_file():
        return None
    part = Dataset.open(folder)
    return part if (part.schema, part.size) == (dataset.schema, dataset.size) else None


def gather(dataset: Dataset, aside: Dataset | None, seed: int, progress: Progress) -> Sides:
    """Read up to `MOST` labelled pictures, about a tenth of them to be tried on (more where there are few).

    Args:
        aside: a validation part, from which the pictures to be tried on come.
        progress: told of each picture.

    Raises:
        UserError: too few pictures have labels that one can see.
        Failure: the pictures cannot be read.
    """
    pictures, digests = _read(dataset, choose(dataset, MOST, seed), seed, progress)
    damaged, tried = digests.count(b""), None
    whole, hashes = _whole(pictures, digests)
    if aside is not None and len(rows := choose(aside, MOST // 5, seed)):
        apart, marks = _read(aside, rows, seed, progress)
        damaged += marks.count(b"")
        there = set(digests)
        apart, _ = _whole(apart, [b"" if mark in there else mark for mark in marks])
        tried = apart if len(apart) else None
    if len(whole) < _LEAST:
        raise UserError(
            f"{dataset.where}: {len(whole)} pictures with labels could be read, and a judge needs {_LEAST} or more"
        )
    count = len(whole)
    few = max(count // 10, min(100, count // 4))
    ends = np.sort(hashes)[[few, 2 * few]] if tried is None else np.sort(hashes)[[0, few]]
    side = np.searchsorted(ends, hashes, side="right")  # a hash is of one picture and all its copies
    first, second, rest = (whole.part(np.flatnonzero(side == number)) for number in range(3))
    sides = Sides(rest, second, first if tried is None else tried, damaged)
    if not all(map(len, (sides.learn, sides.tune, sides.held_out))):
        raise UserError(f"{dataset.where}: nearly all of its labelled pictures are copies of one picture")
    return sides


def choose(dataset: Dataset, most: int, seed: int) -> np.ndarray:
    """Rows of labelled pictures to read, int64, ascending: up to ``most``, and a few more of rare values.

    Of a remote data set whole shards are taken, as few as will do, and no pictures more for rare values.
    """
    schema, known = dataset.schema, np.asarray(dataset.known)
    attributes = judgeable(schema)
    labelled = np.flatnonzero(known[:, attributes].any(1))
    if len(labelled) <= most:
        return labelled
    base = rng.key(seed, "pictures to judge by")
    if dataset.remote:
        shard = np.asarray(dataset.entries["shard"][labelled], np.int64)
        there, counts = np.unique(shard, return_counts=True)
        drawn = permute(base, len(there), np.arange(len(there)))
        enough = int(np.searchsorted(np.cumsum(counts[drawn]), most)) + 1
        labelled = labelled[np.isin(shard, there[drawn[:enough]])]
    rows = labelled[permute(base, len(labelled), np.arange(len(labelled)))]
    chosen = [rows[:most]]
    if not dataset.remote:
        label, known = dataset.labels[rows], known[rows]
        quota = min(_EXTRA, most // (4 * schema.width))
        chosen += [rows[_firsts(said(schema, a, label, known), quota)] for a in attributes]
    return np.unique(np.concatenate(chosen))[: 2 * most]


def _firsts(values: np.ndarray, quota: int) -> np.ndarray:
    """Where the first ``quota`` of each value ≥ 0 stand."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    rank = np.arange(len(values)) - np.searchsorted(ordered, ordered)
    return order[(rank < quota) & (ordered >= 0)]


def _read(dataset: Dataset, rows: np.ndarray, seed: int, progress: Progress) -> tuple[Pictures, list[bytes]]:
    """Pictures, and the keyed hash of each one's pixels; b"" for one that is damaged."""
    by = factor(dataset.size)
    side = dataset.size // by
    images = np.zeros((len(rows), 3, side, side), np.uint8)
    digests: list[bytes] = []
    buffer = np.empty((dataset.size, dataset.size, 3), np.uint8)
    secret = str(seed).encode()
    for out, row in zip(images, rows.tolist(), strict=True):
        digest = b""
        try:
            read_pixels(dataset, row, buffer)
            out[:] = shrink(buffer.transpose(2, 0, 1)[None], by)[0]
            digest = hashlib.blake2b(out.tobytes(), digest_size=8, key=secret).digest()
        except ValueError:
            pass
        except Failure:
            if dataset.remote:  # a lost server, or a full disk
                raise
        digests.append(digest)
        progress(1)
    return Pictures(images, np.asarray(dataset.labels[rows]), np.asarray(dataset.known[rows], bool)), digests


def _whole(pictures: Pictures, digests: list[bytes]) -> tuple[Pictures, np.ndarray]:
    """Those that have a hash, and their hashes as numbers, uint64."""
    rows = np.array([i for i, digest in enumerate(digests) if digest], np.int64)
    return pictures.part(rows), np.array([int.from_bytes(digest, "big") for digest in digests if digest], np.uint64)
