"""Which members of a WebDataset tar are one sample: those that share a key."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from shards.dataset.images import EXTENSIONS
from shards.dataset.tar_index import Member

_LABELS = frozenset({"json", "cls", "npy", "txt", "caption", "text"})
_WORD = re.compile(r"[A-Za-z_]\w*")

Split = Callable[[str], tuple[str, str]]


def at_first_dot(name: str) -> tuple[str, str]:
    """Split a file name by WebDataset's rule: "0001.seg.png" is the key 0001 and the extension seg.png."""
    key, _, extension = name.partition(".")
    return key, extension


def at_words(name: str) -> tuple[str, str]:
    """Split before the last parts that are words: "scan 22.05 (v1.2).jpg" has the extension jpg alone."""
    parts = name.split(".")
    start = len(parts)
    while start > 1 and _WORD.fullmatch(parts[start - 1]):
        start -= 1
    return ".".join(parts[:start]), ".".join(parts[start:])


def at_last_dot(name: str) -> tuple[str, str]:
    """Split as file names are usually read: "photo.v1.jpg" is the key photo.v1."""
    key, _, extension = name.rpartition(".")
    return (key, extension) if key else (extension, "")


def best_split(names: Iterable[str]) -> Split:
    """Return how the file names of some samples are split.

    WebDataset's rule is right unless another one gives more samples an image and a label.
    """
    names = list(names)
    return max((at_first_dot, at_words, at_last_dot), key=lambda split: _complete(names, split))


def rekeyed(member: Member, split: Split) -> Member:
    """Return a member with the key and extension of its sample."""
    folder, slash, name = member.name.removeprefix("./").rpartition("/")
    key, extension = split(name)
    return member._replace(key=f"{folder}{slash}{key}", extension=extension.lower())


def _complete(names: list[str], split: Split) -> int:
    """Return the number of samples that have an image and a label."""
    images: set[str] = set()
    labels: set[str] = set()
    for name in names:
        folder, slash, file = name.rpartition("/")
        key, extension = split(file)
        last = extension.lower().rpartition(".")[2]
        if f".{last}" in EXTENSIONS:
            images.add(folder + slash + key)
        elif last in _LABELS:
            labels.add(folder + slash + key)
    return len(images & labels)
