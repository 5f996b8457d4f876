"""Folders that only divide many files: by number, by the beginning of a name, or in portions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from enum import Enum

from shards.sources.layout.folder_names import is_portion

_NUMBER = re.compile(r"\d+")
_PREFIX = re.compile(r"[0-9a-f]{1,3}", re.IGNORECASE)
_HASH = re.compile(r"[0-9a-f]{8,}", re.IGNORECASE)
_DATE = re.compile(r"(19|20)\d\d([-_.]?\d\d){0,2}")
_SIZES = (100, 256, 500, 512, 1000, 1024, 2000, 5000, 10000, 100000)  # files per bucket, or the remainder's base


class Verdict(Enum):
    """Whether the folders of one level are buckets."""

    NO = "no"
    YES = "yes"
    UNDECIDED = "undecided"


def are_buckets(pairs: Iterable[tuple[str, str]]) -> Verdict:
    """Return whether folders are buckets, from pairs of a folder and the name of an image in or below it.

    Folders of zero-padded numbers are buckets if the numbers of the files give them (00123 is in 00000, or 1003 in
    0003), and undecided otherwise; so are folders of plain numbers whose files would fit. Folders of hexadecimal
    digits are buckets if they are the beginnings of the hashes in them.
    """
    pairs = list(pairs)
    folders = {folder for folder, _ in pairs}
    if _are_portions(folders) or _are_hashes(folders, pairs):
        return Verdict.YES
    if _look_like_hashes(folders) or all(map(_DATE.fullmatch, folders)):
        return Verdict.UNDECIDED
    if not all(folder.isdecimal() for folder in folders):
        return Verdict.NO
    padded = any(len(folder) > 1 and folder.startswith("0") for folder in folders)
    if _numbers_fit(pairs):
        return Verdict.YES if padded else Verdict.UNDECIDED
    return Verdict.UNDECIDED if padded else Verdict.NO


def are_initials(pairs: Iterable[tuple[str, str]]) -> bool:
    """Return True if folders are single letters, each the first letter of the folders in it."""
    return all(
        len(folder) == 1 and folder.isalpha() and name.lower().startswith(folder.lower()) for folder, name in pairs
    )


def _are_portions(folders: set[str]) -> bool:
    """Return True if folders are named alike but for a number, and like portions of files: images_001, images_002."""
    return all(map(is_portion, folders)) and len({_NUMBER.sub("", folder) for folder in folders}) == 1


def _look_like_hashes(folders: set[str]) -> bool:
    alike = len(folders) > 7 and all(map(_PREFIX.fullmatch, folders)) and len(set(map(len, folders))) == 1
    return alike and not all(map(str.isdecimal, folders)) and any(map(_NUMBER.search, folders))


def _are_hashes(folders: set[str], pairs: list[tuple[str, str]]) -> bool:
    return all(map(_PREFIX.fullmatch, folders)) and all(
        _HASH.fullmatch(name.partition(".")[0]) and folder.lower() in name.lower()[: 4 * len(folder)]
        for folder, name in pairs
    )


def _numbers_fit(pairs: list[tuple[str, str]]) -> bool:
    """Return True if each folder's number follows from the numbers of its files by one rule."""
    numbers = []
    for folder, name in pairs:
        found = _NUMBER.findall(name.rpartition(".")[0] or name)
        if not found:
            return False
        numbers.append((int(folder[:18]), int(found[-1][:18])))
    if len({number for _, number in numbers}) < len(numbers) or max(n for _, n in numbers) < min(_SIZES):
        return False
    rules = (lambda n, k: n % k, lambda n, k: n // k, lambda n, k: n - n % k)
    return any(all(rule(n, k) == folder for folder, n in numbers) for k in _SIZES for rule in rules)
