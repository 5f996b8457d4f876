"""Text files in folders of their own, parallel to those of the images: images/a/1.jpg and text/a/1.txt."""

from __future__ import annotations

import re

from shards.core.problems import Problems
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree

_FOLDER = re.compile(r"(text|caption|prompt|description|tag)s?(_\w+)?|\w+[_-]captions?", re.IGNORECASE)
_ENDINGS = (".txt", ".caption")


def parallel_texts(tree: FileTree) -> dict[str, str]:
    """Return image → text file in a folder that is named for texts; nothing if less than half of the images have one.

    An image and its text have the same name and, where names repeat, the same folder around them.
    """
    texts = [name for name in tree.texts if name.endswith(_ENDINGS) and _is_in_text_folder(name)]
    if len(texts) * 2 < len(tree.images):
        return {}
    by_key: dict[str, str | None] = {}
    for text in texts:
        for key in _keys(text):
            by_key[key] = None if key in by_key else text
    found = {}
    for name in tree.images:
        if text := next((text for key in _keys(name) if (text := by_key.get(key))), None):
            found[name] = text
    return found if len(found) * 2 >= len(tree.images) else {}


def first_caption(tree: FileTree, text: str, problems: Problems) -> str | None:
    """Return the first line of a text file; further lines, each a caption, are counted. None if it cannot be used."""
    try:
        lines = tree.texts[text].read().decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError):
        problems.add("text-file-unreadable", text)
        return None
    lines = [line.strip() for line in lines if line.strip()]
    if len(lines) > 1:
        problems.add("caption-not-first", text, count=len(lines) - 1)
    return " ".join(sanitize(lines[0]).split()) if lines else None


def _is_in_text_folder(name: str) -> bool:
    return any(_FOLDER.fullmatch(folder) for folder in name.split("/")[:-1])


def _keys(name: str) -> tuple[str, str]:
    """Return the folder and name of a file without its ending, and the name alone."""
    path = name.rpartition(".")[0]
    folder, _, stem = path.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{stem}", stem
