"""The lists of ImageNet and its relatives: names of WordNet ids, and the classes of validation images."""

from __future__ import annotations

import re
from collections.abc import Iterator

from shards.sources.file_tree import FileTree

_NAMES = ("words.txt", "LOC_synset_mapping.txt", "synset_words.txt")
_VALIDATION = ("val_annotations.txt", "LOC_val_solution.csv")
_ENTRY = re.compile(r"(n\d{8})[\t ]+(\S.*)")
_CLASS = re.compile(r"([^\t ,]+)[\t ,]+(n\d{8})\b")


def read_synsets(tree: FileTree) -> dict[str, str]:
    """Return WordNet id → name from the lists at the top of a source; empty if there are none."""
    return {match[1]: match[2].strip() for name in _NAMES for match in _matches(tree, name, _ENTRY)}


def read_validation_classes(tree: FileTree) -> dict[str, str]:
    """Return image → WordNet id from the lists of validation images, which are in or above the images' folder."""
    found: dict[str, str] = {}
    by_stem: dict[str, str] = {}
    lists = [name for name in tree.texts if name.rpartition("/")[2] in _VALIDATION]
    if lists:
        by_stem = {name.rpartition("/")[2].rpartition(".")[0]: name for name in tree.images if _is_validation(name)}
    for name in lists:
        for match in _matches(tree, name, _CLASS):
            stem = match[1].rpartition(".")[0] or match[1]
            if image := by_stem.get(stem):
                found[image] = match[2]
    return found


def _is_validation(name: str) -> bool:
    return any(folder in ("val", "validation") for folder in name.split("/")[:-1])


def _matches(tree: FileTree, name: str, pattern: re.Pattern[str]) -> Iterator[re.Match[str]]:
    if name in tree.texts:
        for line in tree.text(name).decode("utf-8", "replace").splitlines():
            if match := pattern.match(line):
                yield match
