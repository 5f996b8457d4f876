"""A folder of images per class: SRC/CLASS/image.png, also with parts of the dataset, buckets and levels of classes."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from shards.core.errors import UserError
from shards.sources.class_lists.class_names import ListedNames, find_names
from shards.sources.file_tree import FileTree
from shards.sources.item import Item, Source
from shards.sources.layout.class_names import Classes, name_classes
from shards.sources.layout.levels import Layout, read_layout
from shards.sources.layout.parallel_texts import first_caption, parallel_texts
from shards.sources.layout.synsets import read_synsets, read_validation_classes
from shards.sources.options import ScanOptions
from shards.sources.rows import FOLDER
from shards.sources.source_format import SourceFormat
from shards.sources.text.text_files import images_with_texts

NAME = "classes"

_PREVIEW = re.compile(
    r"(readme|preview|overview|samples?|examples?|logo|banner|cover|montage|grid|collage)\b", re.IGNORECASE
)
_PREVIEWS = 10


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return evidence if all images are in at least two class folders, and no image has a text file."""
    names = tree.images.keys() - _previews(tree)
    if not names or any("/" not in name for name in names):
        return ""
    layout = read_layout(names)
    classes = {tuple(folder.labels) for folder in layout.folders.values() if folder.labels}
    if len(classes) < 2 or any(images_with_texts(tree)):
        return ""
    if any(not folder.labels and folder.part in (None, "train") for folder in layout.folders.values()):
        return ""
    return _evidence(layout, len(classes))


def scan(tree: FileTree, options: ScanOptions) -> Source:
    trusted = options.source == NAME
    for name in _previews(tree):
        tree.problems.add("image-is-preview", name)
        del tree.images[name]
    layout = _layout(tree, trusted)
    if (doubt := layout.doubt or tree.doubt) and not trusted:
        raise UserError(
            "unclear-source",
            f"{tree.root}: {doubt}; or name the labels by --table or --from-name, or move folders out of SRC",
        )
    synsets = read_synsets(tree)
    listed = _numbered_folders(tree, layout)
    listed.report(tree.problems)
    by_folder = {label: listed.names[int(label)] for label in _numbers(layout) if listed.names}
    classes = name_classes(layout, synsets, tree.problems, by_folder)
    if not classes.tags:
        raise UserError("format-mismatch", f"{tree.root}: contains no class folders (SRC/CLASS/image.png)")
    _note(layout, tree)
    items = list(_items(tree, layout, classes, _listed(tree, layout, classes), options))
    evidence = _evidence(layout, len(classes.names))
    rows = {item.id: (f"folder {item.id.rpartition('/')[0]}", "") for item in items} if options.keep_rows else {}
    return Source(NAME, items, not classes.attributes, classes.attributes, tree.problems, evidence, rows=rows)


def _layout(tree: FileTree, trusted: bool) -> Layout:
    """Return what the folders are; those whose numbers a list names are classes beyond doubt."""
    layout = read_layout(tree.images, trusted=trusted)
    if layout.doubt and not trusted:
        sure = read_layout(tree.images, trusted=True)
        return sure if _numbered_folders(tree, sure).names else layout
    return layout


def _numbered_folders(tree: FileTree, layout: Layout) -> ListedNames:
    """Return the names of classes whose folders are numbers, if a list beside them has some."""
    numbers = _numbers(layout)
    used = {int(label) for label in numbers}
    return find_names(tree, "class", used) if len(used) == len(numbers) else ListedNames()


def _numbers(layout: Layout) -> set[str]:
    """Return the names of the class folders if all of them are numbers; else nothing."""
    labels = {folder.labels[-1] for folder in layout.folders.values() if folder.labels}
    return labels if all(label.isdecimal() and len(label) < 10 for label in labels) else set()


def _previews(tree: FileTree) -> list[str]:
    """Return the images at the top whose names say that they show the dataset, if there are folders besides."""
    found = [name for name in tree.images if "/" not in name and _PREVIEW.match(name)]
    return found if len(found) <= _PREVIEWS and len(found) < len(tree.images) else []


def _evidence(layout: Layout, classes: int) -> str:
    parts = f" in the parts {', '.join(layout.parts[:6])}" if layout.parts else ""
    return f"{classes:,} class folders{parts}"


def _note(layout: Layout, tree: FileTree) -> None:
    for code, folders in (
        ("folder-divides-files", layout.buckets),
        ("folder-below-class", layout.cut),
    ):
        for folder in folders:
            tree.problems.add(code, folder)


def _items(
    tree: FileTree, layout: Layout, classes: Classes, listed: dict[str, tuple[str, ...]], options: ScanOptions
) -> Iterator[Item]:
    texts = parallel_texts(tree)
    for name, image in tree.images.items():
        folder = layout.of(name)
        caption = first_caption(tree, texts[name], tree.problems) if name in texts else None
        tags = classes.tags.get(folder.path) or listed.get(name)
        if tags is None:
            tree.problems.add("image-outside-class-folder", name)
        group = sys.intern(folder.path or ".") if options.group == FOLDER else None
        yield Item(name, image, tags, caption=caption, group=group, part=folder.part)


def _listed(tree: FileTree, layout: Layout, classes: Classes) -> dict[str, tuple[str, ...]]:
    """Return the classes of images outside class folders that a list names, such as Tiny-ImageNet's."""
    by_folder = {
        folder.labels[-1]: classes.tags[path] for path, folder in layout.folders.items() if len(folder.labels) == 1
    }
    found = {}
    for name, label in read_validation_classes(tree).items():
        if label in by_folder and not layout.of(name).labels:
            found[name] = by_folder[label]
    return found


FORMAT = SourceFormat(NAME, "a folder per class", detect, scan, by_layout=True, reads_folders=True)
