"""Images and labels in arrays: .npy, .npz, idx (MNIST), MATLAB, HDF5, and the binary versions of CIFAR and STL-10."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.sources.arrays import values
from shards.sources.arrays.files import Array, open_arrays, reader_of
from shards.sources.arrays.pixels import ArrayImage
from shards.sources.arrays.roles import Images, assign
from shards.sources.cells import sanitize
from shards.sources.class_lists.class_names import choose_names
from shards.sources.class_lists.name_lists import NameList, list_of_lines
from shards.sources.file_tree import FileTree
from shards.sources.item import ImageRef, Source
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

_NAME_FILES = re.compile(
    r"(class_names|label_names|labels|classes|batches\.meta|(fine|coarse)_label_names)\.txt$", re.I
)
_MAPPING = re.compile(r"emnist-\w+-mapping\.txt$", re.IGNORECASE)
_SVHN = re.compile(r"(train|test|extra)_32x32\.mat$")


def detect(tree: FileTree, options: ScanOptions) -> str:
    names = _files(tree)
    return f"arrays in {names[0]}" + (f" and {len(names) - 1} more" if names[1:] else "") if names else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    names = _files(tree)
    if not names:
        raise UserError("format-mismatch", f"{tree.root}: contains no files of arrays (.npy, .npz, idx, .mat, .h5)")
    where = tree.where(names[0] if len(names) == 1 and tree.root.is_dir() else "")
    arrays = [array for name in names for array in open_arrays(tree, name, options.spool)]
    found, lists, unused = assign(where, arrays)
    for array in unused:
        tree.problems.add("array-not-used", array.label)
    named = _named_columns(tree, found, lists)
    rows = RowCollector(where, options, tree.problems)
    images: list[tuple[str, ImageRef, int | None]] = []
    for one in found:
        pixels = values.pixels(one.images, options.spool, tree.problems)
        stem = "/".join(part for part in (one.images.file, one.images.name) if part)
        for number, row in enumerate(_rows(tree, one, named)):
            id = f"{stem}/{number}"
            at = rows.add(row, id, part=one.part) if row or one.part else None
            images.append((id, ArrayImage(pixels, number), at))
        if not one.labels and not one.word:
            tree.problems.add("image-unlabelled", stem, detail="label", count=one.images.shape[0])
    return rows.build_source("arrays", images, one_class=any(one.word for one in found))


def _files(tree: FileTree) -> list[str]:
    """Return the files of arrays; none if there are images as files or in containers, which arrays then describe."""
    return [] if tree.images or tree.containers else sorted(name for name in tree.others if reader_of(name))


def _rows(tree: FileTree, one: Images, named: dict[str, list[Any]]) -> Iterator[dict[str, Any]]:
    """Yield the columns of each image."""
    if one.word:
        yield from ({"label": one.word} for _ in range(one.images.shape[0]))
        return
    columns = {column: named[array.label] for column, _, array in _columns(one)}
    for number in range(one.images.shape[0]):
        row = {column: cells[number] for column, cells in columns.items()}
        if isinstance(flags := row.get("label"), dict):
            row = {**row, **flags}
            del row["label"]
        yield row


def _columns(one: Images) -> list[tuple[str, str, Array]]:
    """Return (column, name, array) of the labels of images: the first one is the column "label"."""
    return [("label" if at == 0 else name, name, array) for at, (name, array) in enumerate(one.labels.items())]


def _named_columns(tree: FileTree, found: list[Images], lists: list[Array]) -> dict[str, list[Any]]:
    """Return array of labels → its cells, with the names of classes in place of their numbers.

    The arrays of all parts of a dataset are looked at together: one of them may lack some classes.
    """
    cells: dict[str, list[Any]] = {}
    by_list: dict[tuple[str, NameList], list[str]] = {}
    for column, name, array in (labels for one in found for labels in _columns(one) if not one.word):
        if array.label in cells:
            continue
        listed = _class_names(tree, name, array, lists)
        own = cells[array.label] = list(values.labels(array, listed and [*listed.names], tree.problems))
        numbers = [cell for cell in own if isinstance(cell, int)]
        if _SVHN.search(array.file) and set(numbers) <= set(range(1, 11)):
            tree.problems.add("label-ten-is-zero", array.label, count=numbers.count(10))
            cells[array.label] = [cell % 10 for cell in own]
        if listed and numbers:
            by_list.setdefault((column, listed), []).append(array.label)
    for (_, listed), arrays in by_list.items():
        used = {cell for label in arrays for cell in cells[label] if isinstance(cell, int)} - {-1}
        chosen = choose_names([listed], used)
        chosen.report(tree.problems)
        for label in arrays if chosen.names else ():
            cells[label] = [chosen.names.get(cell) if isinstance(cell, int) else cell for cell in cells[label]]
    return cells


def _class_names(tree: FileTree, column: str, array: Array, lists: list[Array]) -> NameList | None:
    """Return the names of the classes of a label array, from a text file or an array beside it."""
    folder = posixpath.dirname(array.file)
    for name in sorted(tree.texts):
        base = posixpath.basename(name)
        if posixpath.dirname(name) != folder:
            continue
        if _MAPPING.search(base) and base.rpartition("-")[0] in array.file:
            return _mapped(name, tree.text(name))
        prefix = column.partition("_")[0].partition(" ")[0]
        if _NAME_FILES.search(base) and (not base.startswith(("fine", "coarse")) or base.startswith(prefix)):
            return list_of_lines(name, sanitize(tree.text(name).decode("utf-8", "replace")))
    for one in lists:
        if one.file == array.file:
            return NameList(one.label, tuple(str(word) for word in values.labels(one, None, tree.problems)))
    return None


def _mapped(file: str, data: bytes) -> NameList | None:
    """Return the characters of an EMNIST mapping, whose lines are a class and the codes of its characters.

    Words ignore case, so letters that are classes in both cases are told apart as "a" and "capital a".
    """
    rows = [line.split() for line in data.decode("ascii", "replace").splitlines() if line.strip()]
    if not all(len(row) >= 2 and all(number.isdigit() and int(number) < 128 for number in row) for row in rows):
        return None
    first = int(rows[0][0]) if rows else 0
    letters = [chr(int(row[1])) for row in rows]
    both_cases = {letter for letter in letters if letter != letter.swapcase() and letter.swapcase() in letters}
    names = [f"capital {letter}" if letter in both_cases and letter.isupper() else letter for letter in letters]
    return NameList(file, tuple(names), tuple(range(first, first + len(names))))


FORMAT = SourceFormat(
    "arrays",
    "arrays of images and labels (.npy, .npz, idx, .mat, .h5, CIFAR binary)",
    detect,
    scan,
    has_columns=True,
    in_containers=True,
)
