"""Readers of tagged pictures as people keep them: each yields items, one a picture, and counts what is amiss."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from shards.core.errors import UserError
from shards.sources.file_tree import Tree, packed_as, plant, without_pictures
from shards.sources.formats import metadata, sidecars, stylegan, tags
from shards.sources.formats.classes import SPLITS, class_folder, read_classes, read_pictures, splits
from shards.sources.formats.metadata import read_metadata
from shards.sources.formats.parquet import read_parquet
from shards.sources.formats.sidecars import read_sidecars
from shards.sources.formats.stylegan import read_stylegan
from shards.sources.formats.tags import read_tags
from shards.sources.formats.webdataset import read_webdataset
from shards.sources.image_refs import Spooled, TarMember, ZipMember
from shards.sources.item import Item, Picture, PictureFile, Source
from shards.sources.rows import FOLDER, Asked

__all__ = [
    "KINDS",
    "READERS",
    "Item",
    "Picture",
    "PictureFile",
    "Source",
    "Spooled",
    "TarMember",
    "ZipMember",
    "read",
]

READERS: dict[str, Callable[[Tree, Asked], Source]] = {
    "tags": read_tags,
    "classes": read_classes,
    "sidecars": read_sidecars,
    "metadata": read_metadata,
    "stylegan": read_stylegan,
    "parquet": read_parquet,
    "webdataset": read_webdataset,
    "pictures": read_pictures,
}
KINDS = ("auto", *READERS)

_TABLES = ("tags", "metadata", "parquet", "webdataset")  # readers whose rows have further columns
_PACKED = ("parquet", "webdataset")  # readers whose pictures lie in other files


def read(
    src: Path,
    kind: str = "auto",
    *,
    columns: tuple[str, ...] = (),
    group: str | None = None,
    labels: str = "auto",
    spool: Path | None = None,
) -> Source:
    """Read tagged pictures.

    Args:
        src: a folder, a zip, a tar or a Parquet file.
        kind: one of `KINDS`; "auto" to see which it is.
        columns: further columns of a table that label the pictures; ("all",): all that can.
        group: the column that holds a picture's group; "folder": the folder that it lies in.
        labels: "tags" or "caption" decides what texts are; anything else: what they look like.
        spool: a folder to copy pictures into that lie in Parquet files; used again by a second call.

    Raises:
        UserError: there is no such folder or file, it holds no pictures, its kind is unclear, a table is broken,
            or a column is not there.
    """
    tree = plant(src)
    kind = _detected(tree) if kind == "auto" else kind
    if not tree.pictures and kind not in _PACKED:
        raise without_pictures(tree)
    if kind not in _TABLES and (columns or group not in (None, FOLDER)):
        option = "--columns" if columns else "--group"
        raise UserError(f"{option}: {src} is read as {kind}, which has no columns; leave it out, or say --source")
    return READERS[kind](tree, Asked(tuple(columns), group, labels, spool))


def _detected(tree: Tree) -> str:
    """The kind that a source is, by what is there."""
    if not tree.pictures:
        kinds = sorted(set(map(packed_as, tree.packed)))
        if len(kinds) > 1:
            raise UserError(f"{tree.root}: holds tars and Parquet files; say --source webdataset or --source parquet")
        if not kinds:
            raise without_pictures(tree)
        return "parquet" if kinds == [".parquet"] else "webdataset"
    there = {
        "tags": tags.TABLE in tree.texts,
        "metadata": bool(metadata.tables(tree)),
        "stylegan": stylegan.TABLE in tree.texts,
    }
    if found := [kind for kind, is_there in there.items() if is_there]:
        if len(found) > 1:
            raise UserError(f"{tree.root}: holds tables of several kinds; say --source {' or --source '.join(found)}")
        return found[0]
    beside = sum(1 for _ in sidecars.pairs(tree))
    if beside * 2 >= len(tree.pictures):
        return "sidecars"
    return _folders(tree, beside)


def _folders(tree: Tree, beside: int) -> str:
    """Class folders, or an error that says what is there instead."""
    tops = {name.partition("/")[0] for name in tree.pictures if "/" in name}
    loose = sum("/" not in name for name in tree.pictures)
    around = splits(tree.pictures)
    classes = {class_folder(name, around) for name in tree.pictures} - {""}
    bare = not around and {top.lower() for top in tops} <= SPLITS  # train/1.png, test/2.png: parts, and no classes
    if not loose and len(classes) > 1 and not beside and not bare:
        return "classes"
    found = f"{loose:,} pictures at the top" if loose else f"the folders {', '.join(sorted(tops)[:3])}"
    found = found if loose or len(tops) > 1 else f"the one folder {next(iter(tops))!r}"
    if tree.packed:
        found += ", and " + " and ".join(sorted({packed_as(name)[1:] for name in tree.packed})) + " files"
    notes = f", {beside:,} text files beside {len(tree.pictures):,} pictures" if beside else ""
    raise UserError(
        f"{tree.root}: what the pictures show is unclear: no {tags.TABLE} (columns id,tags){notes}, and {found} rather "
        f"than a folder per class; add a {tags.TABLE}, or say --source classes or sidecars, or "
        "--source pictures --schema OTHER/schema.yaml (unlabelled)"
    )
