"""Read all images before packing: their common size, and exact duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from shards.core import process_pool
from shards.core.errors import UserError
from shards.dataset.image_shape import CHANNELS, SQUARE, ImageShape, parse_aspect
from shards.dataset.images import ImageError, dimensions
from shards.packing.packed_shape import trainable_sizes
from shards.sources.item import ImageFile, Item, Source

_CHUNK = 256  # images per task


class _Chunk(NamedTuple):
    start: int
    items: Sequence[Item]
    sizes: bool
    hashes: bool


class _Found(NamedTuple):
    start: int
    sizes: np.ndarray  # int32 (n, 2), width and height; zeros: not an image
    hashes: np.ndarray  # uint8 (n, 32); zeros: unreadable
    why: str


class ImageFacts(NamedTuple):
    """Sizes and hashes of N images.

    Attributes:
        sizes: int32 (N, 2), width and height; zeros for unreadable images.
        hashes: uint8 (N, 32), SHA-256 of the bytes; zeros for unreadable files.
        why: what is wrong with the first unreadable one.
    """

    sizes: np.ndarray
    hashes: np.ndarray
    why: str


def prescan(items: Sequence[Item], processes: int, *, sizes: bool, hashes: bool) -> ImageFacts:
    """Read all images once, with several processes."""
    count = len(items)
    facts = ImageFacts(np.zeros((count, 2), np.int32), np.zeros((count, 32), np.uint8), "")
    processes = max(1, min(processes, -(-count // _CHUNK)))
    why = ""
    for found in process_pool.run(
        _read, _chunks(items, sizes, hashes), workers=processes, total=count, doing="reading"
    ):
        part = slice(found.start, found.start + len(found.sizes))
        facts.sizes[part], facts.hashes[part] = found.sizes, found.hashes
        why = why or found.why
    return facts._replace(why=why)


def _chunks(items: Sequence[Item], sizes: bool, hashes: bool) -> Iterator[_Chunk]:
    for start in range(0, len(items), _CHUNK):
        yield _Chunk(start, items[start : start + _CHUNK], sizes, hashes)


def _read(chunk: _Chunk) -> _Found:
    found = _Found(
        chunk.start, np.zeros((len(chunk.items), 2), np.int32), np.zeros((len(chunk.items), 32), np.uint8), ""
    )
    why = ""
    for row, item in enumerate(chunk.items):
        try:
            data = item.image.read()
            if chunk.hashes:
                found.hashes[row] = np.frombuffer(hashlib.sha256(data).digest(), np.uint8)
            if chunk.sizes:
                found.sizes[row] = dimensions(data)
        except (ImageError, OSError) as error:
            why = why or f"{item.id}: {error.strerror if isinstance(error, OSError) else error}"
        process_pool.advance()
    return found._replace(why=why)


def common_size(items: Sequence[Item], facts: ImageFacts, aspect: str = SQUARE) -> int:
    """Return the longer side of all images.

    Raises:
        UserError: their sizes differ, they do not have the aspect, or none can be read.
    """
    rows = np.flatnonzero(facts.sizes.any(axis=1))
    if not len(rows):
        raise UserError(
            "no-images", f"none of the {len(items):,} images can be packed: {facts.why or 'there are none'}"
        )
    sizes = facts.sizes[rows]
    across, down = parse_aspect(aspect)
    if (other := sizes[:, 0] * down != sizes[:, 1] * across).any():
        row = int(np.argmax(other))
        width, height = sizes[row].tolist()
        raise UserError(
            "option-missing",
            f"set --size: {items[rows[row]].id} is {width} x {height} pixels, which cannot be the size of all images"
            + (f" of {aspect}" if aspect != SQUARE else _kept_aspect(sizes)),
        )
    if len(different := np.unique(sizes.max(axis=1))) > 1:
        shown = " and ".join(map(str, different[:2]))
        raise UserError("option-missing", f"set --size: the images have different sizes ({shown})")
    return int(sizes[0].max())


def _kept_aspect(sizes: np.ndarray) -> str:
    """Return the option that keeps images as they are, if they are all of one size that networks support."""
    if len(np.unique(sizes, axis=0)) > 1:
        return ""
    width, height = sizes[0].tolist()
    shape = ImageShape(CHANNELS["rgb"], height, width)
    kept = shape.base and shape.size in trainable_sizes(shape.aspect)
    return f"; or keep them as they are with --aspect {shape.aspect}" if kept else ""


def drop_duplicates(source: Source, facts: ImageFacts) -> None:
    """Keep one of each set of images with the same bytes, and count the others among the problems.

    The first labelled one is kept, so that a stray copy without a label does not cost the label.
    """
    kept: list[Item] = []
    originals: dict[bytes, int] = {}
    for item, digest in zip(source.items, facts.hashes, strict=True):
        number = originals.setdefault(digest.tobytes(), len(kept)) if digest.any() else len(kept)
        if number == len(kept):
            kept.append(item)
            continue
        differ = _labels(item) != _labels(kept[number])
        if _UNLABELLED == _labels(kept[number]) != _labels(item):
            item, kept[number] = kept[number], item
        source.problems.add(duplicate_code("dropped", differ), item.id)
    source.items = kept


def duplicate_code(fate: str, differ: bool) -> str:
    """Return the message code of exact duplicates that were "dropped" or "kept"; ``differ``: their labels differ."""
    return f"duplicate-{fate}{'-other-label' if differ else ''}"


def _labels(item: Item) -> tuple[object, ...]:
    return frozenset(item.tags or ()), item.tags is None, frozenset(item.denied), item.caption, item.vector


_UNLABELLED = _labels(Item("", ImageFile("", "")))


def duplicates(hashes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of ``hashes`` (N, 32) that repeat an earlier row, and the first equal row of each."""
    _, firsts, inverse = np.unique(
        np.ascontiguousarray(hashes).view("V32").ravel(), return_index=True, return_inverse=True
    )
    original = firsts[inverse.ravel()]
    rows = np.flatnonzero(original != np.arange(len(hashes)))
    return rows, original[rows]
