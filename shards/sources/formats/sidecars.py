"""A text file per image, image.txt or image.png.txt next to image.png: tags separated by commas, or a caption."""

from __future__ import annotations

from collections.abc import Mapping

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.item import ImageRef, Source
from shards.sources.layout.levels import read_layout
from shards.sources.layout.parallel_texts import first_caption, parallel_texts
from shards.sources.matching import images_with_rows, images_with_texts
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

_MAX_BYTES = 1 << 20  # of a text file


def detect(tree: FileTree, options: ScanOptions) -> str:
    """Return evidence if at least half of the images have a text file."""
    texts = sum(1 for _ in images_with_texts(tree))
    if not texts and (parallel := parallel_texts(tree)):
        folders = read_layout(tree.images).folders.values()
        texts = len(parallel) if len({tuple(folder.labels) for folder in folders}) < 2 else 0  # else: class folders
    return f"{texts:,} of {len(tree.images):,} images have a text file" if texts * 2 >= len(tree.images) > 0 else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    rows = RowCollector(str(tree.root), options, tree.problems)
    matched: dict[str, int] = {}
    used: set[str] = set()
    parallel = {} if any(images_with_texts(tree)) else parallel_texts(tree)
    classes = _class_folders(parallel)
    for name, sidecar in parallel.items() if parallel else images_with_texts(tree):
        used.add(sidecar)
        text = (
            _text(tree, sidecar, tree.texts[sidecar]) if not parallel else first_caption(tree, sidecar, tree.problems)
        )
        if text is not None:
            matched[name] = rows.add({"text": text, **classes.get(sidecar, {})}, sidecar)
    if not matched:
        raise UserError("format-mismatch", f"{tree.root}: contains no text files of images (image.png and image.txt)")
    for name in tree.texts:
        if name.endswith((".txt", ".caption")) and name not in used:
            tree.problems.add("text-file-without-image", name)
    used.clear()
    tree.texts.clear()  # saves memory with a million files
    return rows.build_source("sidecars", images_with_rows(tree, matched, "text"))


def _class_folders(parallel: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """Return text file → its folder as a class, if texts in folders of their own are in several of them."""
    folders = {text: text.split("/")[-2] for text in parallel.values()}
    return {text: {"label": name} for text, name in folders.items()} if len(set(folders.values())) > 1 else {}


def _text(tree: FileTree, name: str, file: ImageRef) -> str | None:
    """Return the content of a text file; None if it cannot be used, which is counted."""
    try:
        data = file.read()
    except OSError as error:
        tree.problems.add("text-file-unreadable", f"{name}: {error.strerror}")
        return None
    if len(data) > _MAX_BYTES:
        tree.problems.add("text-file-too-large", name)
        return None
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        tree.problems.add("text-file-not-utf8", name)
        return None


FORMAT = SourceFormat("sidecars", "a text file per image with tags or a caption", detect, scan, by_layout=True)
