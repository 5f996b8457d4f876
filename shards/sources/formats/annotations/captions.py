"""Lists with several captions per image: Flickr8k, Flickr30k, and the splits of Karpathy."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from shards.core.errors import UserError
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import sanitize
from shards.sources.file_tree import FileTree
from shards.sources.first_bytes import find_files
from shards.sources.item import Source
from shards.sources.matching import images_with_rows
from shards.sources.options import ScanOptions
from shards.sources.rows import RowCollector
from shards.sources.source_format import SourceFormat

NAME = "captions"

_ENDINGS = "|".join(extension[1:] for extension in sorted(EXTENSIONS))
_LINE = re.compile(
    rf"(?P<name>[^\t,|#]+?\.(?:{_ENDINGS}))\s*"
    r"(?P<number>(?:#\d+\s*\t|\|\s*\d+\s*\||[,\t]\s*\d+\s*[,\t]))?(?:[,\t|]\s*)?(?P<caption>.*)",
    re.IGNORECASE,
)
_HEAD = 1 << 14
_MAX_FILES = 256
_LONGEST = 10_000  # characters of a line
_FEWEST = 2  # lines of one image, and words of a caption


def detect(tree: FileTree, options: ScanOptions) -> str:
    names = _files(tree)
    return f"{names[0]} has several captions for each image" if tree.images and names else ""


def scan(tree: FileTree, options: ScanOptions) -> Source:
    files = _files(tree)
    if not files:
        raise UserError("format-mismatch", f"{tree.root}: contains no list of captions (image and caption on a line)")
    listed = [pair for file in files for pair in _captions(tree, file)]
    images = tree.image_names.match_each((id for id, _ in listed), tree.problems)
    captions: dict[str, str] = {}
    further = Counter[str]()
    for image, caption in ((images[id], caption) for id, caption in listed if id in images):
        if image in captions:
            further[image] += 1
        elif caption:
            captions[image] = caption
    for name, count in further.items():
        tree.problems.add("caption-not-first", name, count=count)
    if not captions:
        raise UserError("no-row-matches", f"{tree.where(files[0])}: names no image in {tree.root}")
    rows = RowCollector(tree.where(files[0]), options, tree.problems)
    matched = {name: rows.add({"text": caption}, f"captions of {name}") for name, caption in captions.items()}
    return rows.build_source(NAME, images_with_rows(tree, matched, "caption"))


def _files(tree: FileTree) -> list[str]:
    """Return the lists of captions; of the same captions in several forms (lemmatised), only the plain one."""
    found = find_files(tree.texts | tree.others, (".txt", ".csv", ".token", ".json"), _is_list, _MAX_FILES, _HEAD)
    return [name for name in found if "lemma" not in name.lower()] or found


def _is_list(name: str, start: bytes) -> bool:
    if name.lower().endswith(".json"):
        return re.search(rb'"sentences"\s*:\s*\[\s*\{', start) is not None
    lines = start.decode("utf-8-sig", "replace").splitlines()
    lines = lines[: -1 if len(start) == _HEAD else None][:60]  # the last line may be cut off
    matched = [found for line in lines if (found := _match(line))]
    names = {found["name"] for found in matched}
    words = sum(len(found["caption"].split()) > _FEWEST for found in matched)
    several = len(lines) > 1 and len(matched) >= max(len(lines) - 1, _FEWEST * len(names))
    return several and words * 2 > len(matched)


def _match(line: str) -> re.Match[str] | None:
    return _LINE.fullmatch(line.strip()) if len(line) < _LONGEST else None


def _captions(tree: FileTree, file: str) -> Iterator[tuple[str, str]]:
    """Yield (image, caption) of a list; count lines that are none."""
    if file.lower().endswith(".json"):
        yield from _of_karpathy(tree.json(file))
        return
    for number, line in enumerate(tree.text(file).decode("utf-8-sig", "replace").splitlines(), 1):
        if found := _match(line):
            yield sanitize(found["name"].strip()), sanitize(_unquoted(found["caption"]))
        elif line.strip() and number > 1:
            tree.problems.add("line-unreadable", f"{file}, line {number}")


def _unquoted(text: str) -> str:
    text = text.strip()
    return text[1:-1].replace('""', '"') if len(text) > 1 and text[0] == text[-1] == '"' else text


def _of_karpathy(content: Any) -> Iterator[tuple[str, str]]:
    for image in content.get("images") or () if isinstance(content, dict) else ():
        name = image.get("filename") if isinstance(image, dict) else None
        sentences = image.get("sentences") if isinstance(image, dict) else None
        for sentence in sentences if isinstance(sentences, list) else ():
            if isinstance(name, str) and isinstance(sentence, dict) and isinstance(sentence.get("raw"), str):
                yield sanitize(posixpath.join(str(image.get("filepath") or ""), name)), sanitize(sentence["raw"])


FORMAT = SourceFormat(NAME, "a list with several captions per image, as in Flickr8k", detect, scan)
