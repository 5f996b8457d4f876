"""Text files of images: image.txt or image.png.txt next to image.png, with any of the endings that people use."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator

from shards.core.errors import UserError
from shards.sources.file_tree import FileTree
from shards.sources.text.encoding import decode, detect

_MAX_BYTES = 1 << 20  # of a text file
ENDINGS = (".txt", ".caption", ".tags", ".label", ".text")


def images_with_texts(tree: FileTree) -> Iterator[tuple[str, str]]:
    """Yield (image, text file) by name for all images with a text file, next to the image or in labels/ for images/."""
    texts = {name[: len(name) - len(ending)] + ending: name for name in tree.texts if (ending := text_ending(name))}
    for image in tree.images if texts else ():
        stem = image.rpartition(".")[0]
        before, _, after = f"/{stem}".rpartition("/images/")
        bases = (stem, image, f"{before}/labels/{after}".removeprefix("/"))  # YOLO has images/ and labels/
        near = (f"{base}{ending}" for base in bases for ending in ENDINGS)
        if (found := next((texts[name] for name in near if name in texts), None)) is not None:
            yield image, found


def text_ending(name: str) -> str:
    """Return the ending of a text file in lower case; "" for other files."""
    ending = name[name.rfind(".") :].lower()
    return ending if ending in ENDINGS else ""


def read_texts(tree: FileTree, names: Iterable[str], encoding: str | None) -> dict[str, str]:
    """Return the contents of text files; those that cannot be used are counted.

    Texts that are not in UTF-8 are short: their encoding is told from all of them together.
    """
    texts: dict[str, str] = {}
    legacy: dict[str, bytes] = {}
    for name in names:
        data = _content(tree, name)
        if data is None:
            continue
        try:
            if encoding or data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
                texts[name] = decode(data, name, encoding, tree.problems).text.strip()
            else:
                texts[name] = data.decode("utf-8-sig").strip()
        except UnicodeDecodeError:
            legacy[name] = data
        except UserError:
            if encoding:
                raise
            tree.problems.add("text-file-not-utf8", name)
    common = detect(legacy.values()) if legacy else ""
    for name, data in legacy.items():
        if common:
            texts[name] = decode(data, name, common, tree.problems).text.strip()
        else:
            tree.problems.add("text-file-not-utf8", name)
    return texts


def _content(tree: FileTree, name: str) -> bytes | None:
    try:
        data = tree.texts[name].read()
    except OSError as error:
        tree.problems.add("text-file-unreadable", f"{name}: {error.strerror}")
        return None
    if len(data) > _MAX_BYTES:
        tree.problems.add("text-file-too-large", name)
        return None
    return data
