"""A folder of images per class, SRC/CLASS/image.png."""

from __future__ import annotations

from collections.abc import Collection

from shards.core.errors import UserError
from shards.dataset.schema import normalise
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.matching import images_with_texts
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return evidence if all images are in at least two class folders, and no image has a text file."""
    if not tree.images or any("/" not in name for name in tree.images):
        return ""
    splits = split_folders(tree.images)
    classes = {class_folder(name, splits) for name in tree.images} - {""}
    tops = {name.partition("/")[0].lower() for name in tree.images}
    only_splits = not splits and tops <= SPLITS  # train/1.png, test/2.png: splits without classes
    if len(classes) < 2 or only_splits or any(images_with_texts(tree)):
        return ""
    return f"{len(classes):,} folders with images"


def scan(tree: FileTree, options: ScanOptions) -> Source:
    rows = RowCollector(str(tree.root), options, tree.problems)
    images = []
    row_of: dict[str, int] = {}
    splits = split_folders(tree.images)
    for split in splits:
        tree.problems.add("folder-is-split", split)
    for name, image in tree.images.items():
        label = class_folder(name, splits)
        if not label:
            tree.problems.add("image-outside-class-folder", name)
        elif label not in row_of:
            row_of[label] = rows.add({"label": normalise(label)}, name)
        images.append((name, image, row_of.get(label)))
    if not row_of:
        raise UserError("format-mismatch", f"{tree.root}: contains no class folders (SRC/CLASS/image.png)")
    return rows.build_source("classes", images, one_class=True)


def split_folders(names: Collection[str]) -> list[str]:
    """Return the top folders if all of them are splits of a dataset (train, test …) that contain class folders."""
    tops = sorted({name.partition("/")[0] for name in names if "/" in name})
    nested = any(name.count("/") > 1 for name in names)
    return tops if nested and all(top.lower() in SPLITS for top in tops) else []


def class_folder(name: str, splits: Collection[str]) -> str:
    """Return the folder that is an image's class, below the folders of splits; "" if the image is outside of one."""
    folders = name.split("/")[:-1]
    depth = 1 if splits else 0
    return folders[depth] if len(folders) > depth else ""


FORMAT = SourceFormat("classes", "a folder per class", detect, scan, by_layout=True)
