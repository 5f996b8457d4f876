"""Telling the arrays of a source apart by their names and shapes: images, their labels, and the parts they are in."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field

from shards.core.atomic_io import join_names
from shards.core.errors import UserError
from shards.sources.arrays.files import Array
from shards.sources.arrays.pixels import arrangement

_PARTS = {
    "train": "train|training|tr|extra",
    "validation": "val|valid|validation|dev",
    "test": "test|testing|t10k|te",
    "unlabelled": "unlabeled|unlabelled",
}
_PART_OF = {word: part for part, words in _PARTS.items() for word in words.split("|")}
_IMAGES = frozenset("images image imgs img x data pixels samples pictures faces frames inputs set arr sprites".split())
_MASKS = frozenset("mask masks seg segmentation depth annotations heatmap heatmaps landmarks".split())
_LABELS = frozenset(
    "labels label y targets target classes class cls onehot attributes attrs attr tags tag factors digits digit".split()
)
_NAMES = frozenset("names categories list".split())  # of arrays with the names of classes
_STORAGE = frozenset("idx1 idx2 idx3 idx4 ubyte bin batch".split())
_MIN_FLAT = 64  # numbers in a row that may be an image though its name does not say so


@dataclass
class Images:
    """An array of images and the arrays with one label for each of them.

    Attributes:
        images: the array.
        part: the part of the dataset, or None.
        labels: the arrays, by name; the first one is the label, the others are further columns.
        word: the class of all its images, if each array has the images of one class; else "".
    """

    images: Array
    part: str | None
    labels: dict[str, Array] = field(default_factory=dict)
    word: str = ""


@dataclass(frozen=True)
class _Named:
    array: Array
    words: frozenset[str]
    part: str | None
    rest: tuple[str, ...]  # what remains of its name: the dataset, or the class


def assign(where: str, arrays: list[Array]) -> tuple[list[Images], list[Array], list[Array]]:
    """Return the images with their labels, arrays with the names of classes, and arrays without a use.

    Raises:
        UserError: no array has images, it is not clear which one does, or labels and images differ in number.
    """
    named = [_named(array) for array in arrays]
    images = _only_images([one for one in named if _is_images(one)])
    if not images:
        shapes = join_names([f"{array.label} {_size(array)}" for array in arrays], 6)
        raise UserError(
            "no-images",
            f"{where}: no array has images (N x height x width, with 1, 3 or 4 channels first or last): {shapes}",
        )
    others = [one for one in named if one not in images]
    found = [_with_labels(where, one, others) for one in images]
    used = {id(array) for one in found for array in (one.images, *one.labels.values())}
    left = [one for one in others if id(one.array) not in used]
    names = [one.array for one in left if one.array.values.dtype.kind in "SU"]
    _check_one_dataset(where, images, found)
    if not any(one.labels for one in found) and len(found) > 1:
        _name_classes(found, images)
    return found, names, [one.array for one in left if one.array.values.dtype.kind not in "SU"]


def _named(array: Array) -> _Named:
    stem = re.sub(r"(\.(npy|npz|mat|h5|hdf5|hdf|bin|gz))+$", "", os.path.basename(array.file), flags=re.IGNORECASE)  # noqa: PTH119
    of_file = [word for word in re.split(r"[^a-z0-9]+", stem.lower()) if word]
    of_array = re.findall(r"[a-z]+|[0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", array.name).lower())
    words = of_array if array.name else of_file
    parts = [_PART_OF[word] for word in (*of_array, *of_file) if word in _PART_OF]
    known = _IMAGES | _LABELS | _STORAGE | set(_PART_OF)
    rest = tuple(word for word in (*of_file, *of_array) if word not in known)
    return _Named(array, frozenset(words), parts[0] if parts else None, rest)


def _is_images(one: _Named) -> bool:
    array = one.array
    if array.values.dtype.kind not in "biuf" or len(array.shape) < 2 or not arrangement(array.shape[1:]):
        return False
    if len(array.shape) > 2:
        return not one.words & _LABELS or bool(one.words & _IMAGES)
    named = bool(one.words & _IMAGES)
    return named if one.words & _LABELS else named or array.shape[1] >= _MIN_FLAT


def _only_images(found: list[_Named]) -> list[_Named]:
    """Leave out masks and the like where something else is named as images."""
    named = [one for one in found if one.words & _IMAGES and not one.words & _MASKS]
    return named or [one for one in found if not one.words & _MASKS]


def _with_labels(where: str, one: _Named, others: list[_Named]) -> Images:
    count = one.array.shape[0]
    near = [
        other
        for other in others
        if other.part == one.part and _same_dataset(one, other) and other.array.shape and not other.words & _MASKS
    ]
    fitting = [other for other in near if _length(other.array, count) and not other.words & _NAMES]
    if not fitting and (wrong := [other for other in near if other.words & _LABELS and not other.words & _NAMES]):
        raise UserError(
            "array-lengths-differ",
            f"{where}: {one.array.label} has {count:,} images, but {wrong[0].array.label} is {_size(wrong[0].array)}; "
            "labels need one row per image",
        )
    fitting.sort(key=lambda other: (not other.words & _LABELS, "coarse" in other.words, other.array.label))
    return Images(one.array, one.part, {_column(other): other.array for other in fitting})


def _same_dataset(one: _Named, other: _Named) -> bool:
    if one.array.file == other.array.file:
        return True
    folders = os.path.dirname(one.array.file), os.path.dirname(other.array.file)  # noqa: PTH120
    return folders[0] == folders[1] and one.rest == other.rest


def _length(array: Array, count: int) -> bool:
    shape = array.shape
    return shape[0] == count or (len(shape) == 2 and shape == (1, count))


def _column(one: _Named) -> str:
    words = re.split(r"[^A-Za-z0-9]+", (one.array.name or "label").lower())
    return " ".join(word for word in words if word and word not in _PART_OF) or "label"


def _check_one_dataset(where: str, images: list[_Named], found: list[Images]) -> None:
    """Raise UserError if labels of different datasets would be mixed, or two arrays have the same images."""
    datasets = {tuple(word for word in one.rest if not word.isdigit()) for one in images}
    files = {one.array.file for one in images}
    several_in_file = len({(one.array.file, one.part) for one in images}) < len(images)
    labelled = any(one.labels for one in found)
    if (labelled and (len(datasets) > 1 or several_in_file)) or len({one.images.shape[1:] for one in found}) > 1:
        listed = join_names(sorted(one.array.label for one in images), 6)
        advice = "give one of the files as SRC" if len(files) > 1 else "save the array that you want in its own file"
        raise UserError("ambiguous-arrays", f"{where}: several arrays have images ({listed}); {advice}")


def _name_classes(found: list[Images], images: list[_Named]) -> None:
    """Name classes by what distinguishes the arrays' names, where each array has the images of one class."""
    rests = [list(one.rest) for one in images]
    if len({tuple(rest) for rest in rests}) < 2:
        return
    while all(rests) and len({rest[0] for rest in rests}) == 1:
        rests = [rest[1:] for rest in rests]
    while all(rests) and len({rest[-1] for rest in rests}) == 1:
        rests = [rest[:-1] for rest in rests]
    if all(rests):
        for one, rest in zip(found, rests, strict=True):
            one.word = " ".join(rest)


def _size(array: Array) -> str:
    return " x ".join(f"{edge:,}" for edge in array.shape) or "one value"
