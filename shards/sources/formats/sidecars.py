"""A text file beside each picture, picture.txt or picture.png.txt: tags between commas, or a caption."""

from __future__ import annotations

from collections.abc import Iterator

from shards.core.errors import UserError
from shards.sources.file_tree import Tree
from shards.sources.formats.tags import with_rows
from shards.sources.item import Picture, Source
from shards.sources.rows import Asked, Rows

_LARGEST = 1 << 20  # bytes of text beside a picture


def read_sidecars(tree: Tree, asked: Asked) -> Source:
    rows = Rows(str(tree.root), asked, tree.problems)
    found: dict[str, int] = {}
    used: set[str] = set()
    for name, beside in pairs(tree):
        used.add(beside)
        text = _text(tree, beside, tree.texts[beside])
        if text is not None:
            found[name] = rows.add({"text": text}, beside)
    if not found:
        raise UserError(f"{tree.root}: no text files beside pictures (picture.png and picture.txt) in it")
    for name in tree.texts:
        if name.endswith((".txt", ".caption")) and name not in used:
            tree.problems.add("text-file-without-image", name)
    used.clear()
    tree.texts.clear()  # with a million of them, memory matters
    return rows.source("sidecars", with_rows(tree, found, "text"))


def pairs(tree: Tree) -> Iterator[tuple[str, str]]:
    """Pictures and the text files beside them, by name."""
    for name in tree.pictures:
        stem = name.rpartition(".")[0]
        for beside in (f"{stem}.txt", f"{stem}.caption", f"{name}.txt"):
            if beside in tree.texts:
                yield name, beside
                break


def _text(tree: Tree, name: str, file: Picture) -> str | None:
    """A text, its line ends turned to commas only where they part pieces; None: it cannot be used, and is counted."""
    try:
        data = file.read()
    except OSError as error:
        tree.problems.add("text-file-unreadable", f"{name}: {error.strerror}")
        return None
    if len(data) > _LARGEST:
        tree.problems.add("text-file-too-large", name)
        return None
    try:
        return data.decode("utf-8-sig").strip()
    except UnicodeDecodeError:
        tree.problems.add("text-file-not-utf8", name)
        return None
