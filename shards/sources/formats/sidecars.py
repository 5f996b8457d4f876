"""A text file per image, image.txt or image.png.txt next to image.png: tags separated by commas, or a caption."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.item import Source
from shards.sources.layout.levels import read_layout
from shards.sources.layout.parallel_texts import first_caption, parallel_texts
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat
from shards.sources.tag_cells.boxes import are_boxes, box_classes, boxes_in
from shards.sources.text.text_files import images_with_texts, read_texts, text_ending

NAME = "sidecars"


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return evidence if at least half of the images have a text file."""
    texts = sum(1 for _ in images_with_texts(tree))
    if not texts and (parallel := parallel_texts(tree)):
        folders = read_layout(tree.images).folders.values()
        texts = len(parallel) if len({tuple(folder.labels) for folder in folders}) < 2 else 0  # else: class folders
    return f"{texts:,} of {len(tree.images):,} images have a text file" if texts * 2 >= len(tree.images) > 0 else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    near = dict(images_with_texts(tree))
    parallel = {} if near else parallel_texts(tree)
    if near:
        found = read_texts(tree, near.values(), options.encoding)
    else:
        found = {name: text for name in parallel.values() if (text := first_caption(tree, name, tree.problems))}
    if not found:
        raise UserError("format-mismatch", f"{tree.root}: contains no text files of images (image.png and image.txt)")
    _count_others(tree, {*near.values(), *parallel.values()})
    classes, boxes = _class_folders(parallel), _tags_of_boxes(tree, found.values())
    rows = RowCollector(str(tree.root), options, tree.problems)
    matched: dict[str, int] = {}
    shared = Counter((near or parallel).values())
    for image, name in (near or parallel).items():
        if (text := found.get(name)) is not None:
            if shared[name] > 1:
                tree.problems.add("text-file-shared", image)
            row = {"tags": boxes.get(text, [])} if boxes else {"text": text, **classes.get(name, {})}
            matched[image] = rows.add(row, name)
    tree.texts.clear()  # saves memory with a million files
    source = rows.build_source(NAME, images_with_rows(tree, matched, "text"))
    read = "names of the classes in boxes" if boxes else rows.understood.described
    source.evidence = f"{len(matched):,} of {len(tree.images):,} images have a text file: {read}"
    return source


def _count_others(tree: FileTree, used: set[str]) -> None:
    """Count text files that are not read: those without an image, and further ones of an image."""
    others = [name for name in tree.texts if text_ending(name) and name not in used]
    names = {name for image in tree.images for name in (image, image.rpartition(".")[0])} if others else set()
    for name in others:
        further = name.rpartition(".")[0] in names
        tree.problems.add("text-file-not-first" if further else "text-file-without-image", name)


def _tags_of_boxes(tree: FileTree, texts: Collection[str]) -> dict[str, list[str]]:
    """Return text → the names of the classes in its boxes; empty if the texts are no boxes.

    Raises:
        UserError: they are boxes, and no file names their classes.
    """
    if not are_boxes(texts):
        return {}
    found = {text: boxes_in(text) or set() for text in texts}
    where, names = box_classes(tree)
    if not names or max((number for numbers in found.values() for number in numbers), default=0) >= len(names):
        raise UserError(
            "texts-are-boxes",
            f"{tree.root}: the text files have boxes (class x y width height, as YOLO writes them), which are no tags; "
            "write the names of the classes into classes.txt, one per line, to make those that an image shows its "
            "tags, or set --source pictures or --source classes",
        )
    tree.problems.add("boxes-are-tags", detail=where, count=len(texts))
    return {text: [names[number] for number in sorted(numbers)] for text, numbers in found.items()}


def _class_folders(parallel: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return text file → its folder as a class, if texts in folders of their own are in several of them."""
    folders = {text: text.split("/")[-2] for text in parallel.values()}
    return {text: {"label": name} for text, name in folders.items()} if len(set(folders.values())) > 1 else {}


FORMAT = SourceFormat(NAME, "a text file per image with tags or a caption", detect, scan, by_layout=True)
