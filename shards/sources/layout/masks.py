"""Masks, annotations and thumbnails: files that look like images and show other images' contents."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import NamedTuple

from shards.sources.layout.folder_names import DEPTH, holds_images, is_mask, part_name

_MASK_FILE = re.compile(
    r"[_.-](?:mask|masks|seg|segmentation|gt|label|labels|matte|trimap|depth|alpha|annotation)(?:[ _-]?\d+)?$"
)
_MATCHED = 0.9  # of the masks' names that belong to an image's


class Masks(NamedTuple):
    """The masks among images.

    Attributes:
        names: files that are masks of other images.
        doubtful: folders that may hold masks or be classes.
    """

    names: frozenset[str]
    doubtful: tuple[str, ...]


def find_masks(names: Collection[str]) -> Masks:
    """Return the masks among the paths of images.

    A folder with a name like "masks" holds masks if it is beside a folder of images (or of parts of the dataset), and
    its files are named after images elsewhere. A file "x_mask.png" is a mask if there is an image "x" beside it.
    """
    folders = _folders(names)
    candidates = {path for path in folders if is_mask(path.rpartition("/")[2]) and _others(path, folders)}
    masks, doubtful = set(_mask_files(names)), []
    if not candidates:
        return Masks(frozenset(masks), ())
    inside: dict[str, list[str]] = {path: [] for path in candidates}
    stems: set[str] = set()
    for name in names:
        owner = next((path for path in _above(name) if path in inside), "")
        if owner:
            inside[owner].append(name)
        elif name not in masks:
            stems.update(_stems(name, suffixes=False))
    for path, members in sorted(inside.items()):
        matched = sum(any(stem in stems for stem in _stems(name)) for name in members) >= _MATCHED * len(members)
        beside = any(holds_images(other) or part_name(other) for other in _others(path, folders))
        if members and matched and beside:
            masks.update(members)
        elif members and (matched or beside):
            doubtful.append(path)
    return Masks(frozenset(masks), tuple(doubtful))


def _folders(names: Collection[str]) -> dict[str, set[str]]:
    """Return folder → the folders in it, for all folders that have images in or below them."""
    found: dict[str, set[str]] = {"": set()}
    for path in {name.rpartition("/")[0] for name in names}:
        folder = "/".join(path.split("/", DEPTH)[:DEPTH])
        while folder:
            above, _, last = folder.rpartition("/")
            found.setdefault(folder, set())
            if last in found.setdefault(above, set()):
                break
            found[above].add(last)
            folder = above
    return found


def _others(path: str, folders: dict[str, set[str]]) -> list[str]:
    """Return the folders beside one that may hold masks; those that may hold masks themselves do not count."""
    return [name for name in folders[path.rpartition("/")[0]] if not is_mask(name)]


def _above(name: str) -> Iterator[str]:
    """Yield the folders that contain a file, the outermost first."""
    at, depth = name.find("/"), 0
    while at >= 0 and depth < DEPTH:
        yield name[:at]
        at, depth = name.find("/", at + 1), depth + 1


def _stems(name: str, suffixes: bool = True) -> Iterator[str]:
    """Yield the spellings by which a mask's file name may name its image."""
    stem = name.rpartition("/")[2].rpartition(".")[0].lower()
    yield stem
    head = re.split(r"[_.-]", stem, maxsplit=1)[0] if suffixes else stem
    if suffixes and (found := _MASK_FILE.search(stem)):
        yield stem[: found.start()].rstrip(" _.-")
    if head.isdecimal():
        yield str(int(head[:18]))


def _mask_files(names: Collection[str]) -> Iterator[str]:
    """Yield the images that are named after another one in their folder, such as x_mask.png beside x.png."""
    found = []
    for name in names:
        stem = name.rpartition(".")[0]
        if match := _MASK_FILE.search(stem):
            found.append((name, stem[: match.start()].rstrip(" _.-")))
    if found:
        stems = {name.rpartition(".")[0] for name in names}
        yield from (name for name, stem in found if stem in stems)
