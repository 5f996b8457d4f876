"""A folder (or zip) with a folder of pictures per class, SRC/CLASS/picture.png; and pictures without any label."""

from __future__ import annotations

from shards.errors import UserError
from shards.schema import normalise
from shards.sources.item import Source
from shards.sources.rows import Asked, Rows
from shards.sources.tree import Tree


def read_classes(tree: Tree, asked: Asked) -> Source:
    rows = Rows(str(tree.root), asked, tree.problems)
    pictures = []
    known: dict[str, int] = {}
    for name, picture in tree.pictures.items():
        label, slash, _ = name.partition("/")
        if not slash:
            tree.problems.add("pictures outside a class folder (kept, unlabelled)", name)
        elif label not in known:
            known[label] = rows.add({"label": normalise(label)}, name)
        pictures.append((name, picture, known[label] if slash else None))
    if not known:
        raise UserError(f"{tree.root}: no class folders (SRC/CLASS/picture.png) in it")
    return rows.source("classes", pictures, one_class=True)


def read_pictures(tree: Tree, asked: Asked) -> Source:
    """Nothing is known of any picture."""
    rows = Rows(str(tree.root), asked, tree.problems)
    return rows.source("pictures", [(name, picture, None) for name, picture in tree.pictures.items()])
