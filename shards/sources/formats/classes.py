"""A folder (or zip) with a folder of pictures per class, SRC/CLASS/picture.png; and pictures without any label."""

from __future__ import annotations

from collections.abc import Collection

from shards.core.errors import UserError
from shards.dataset.schema import normalise
from shards.sources.file_tree import Tree
from shards.sources.item import Source
from shards.sources.rows import Asked, Rows

SPLITS = frozenset({"train", "training", "test", "testing", "val", "valid", "validation", "dev"})


def read_classes(tree: Tree, asked: Asked) -> Source:
    rows = Rows(str(tree.root), asked, tree.problems)
    pictures = []
    known: dict[str, int] = {}
    around = splits(tree.pictures)
    for split in around:
        tree.problems.add("folder-is-split", split)
    for name, picture in tree.pictures.items():
        label = class_folder(name, around)
        if not label:
            tree.problems.add("image-outside-class-folder", name)
        elif label not in known:
            known[label] = rows.add({"label": normalise(label)}, name)
        pictures.append((name, picture, known.get(label)))
    if not known:
        raise UserError(f"{tree.root}: no class folders (SRC/CLASS/picture.png) in it")
    return rows.source("classes", pictures, one_class=True)


def splits(names: Collection[str]) -> list[str]:
    """The top folders, where all of them are parts of a data set (train, test …) around the class folders."""
    tops = sorted({name.partition("/")[0] for name in names if "/" in name})
    inside = any(name.count("/") > 1 for name in names)
    return tops if inside and all(top.lower() in SPLITS for top in tops) else []


def class_folder(name: str, around: Collection[str]) -> str:
    """The folder that is a picture's class, below the splits around it if there are any; "": it lies outside of one."""
    folders = name.split("/")[:-1]
    below = 1 if around else 0
    return folders[below] if len(folders) > below else ""


def read_pictures(tree: Tree, asked: Asked) -> Source:
    """Nothing is known of any picture."""
    rows = Rows(str(tree.root), asked, tree.problems)
    return rows.source("pictures", [(name, picture, None) for name, picture in tree.pictures.items()])
