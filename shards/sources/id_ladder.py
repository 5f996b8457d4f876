"""Which image the id of a row names: a ladder of readings, each used only where it leaves no doubt in the whole table.

The first rungs are the documented ones: a path, with or without extension, below a common folder or without folders.
The lower ones mend what programs do to ids, and each of them is said with a count: other slashes and the paths or
URLs of another computer, capital letters, extensions, and zeros that a spreadsheet drops.
"""

from __future__ import annotations

import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from urllib.parse import unquote

from shards.core.problems import Problems
from shards.dataset.images import EXTENSIONS
from shards.sources.cells import shorten_names

_MAX_PARTS = 8  # of a path, counted from its end
_WHOLE = re.compile(r"0*(\d{1,18})(?:\.0*)?")  # 17, 000017, 17.0
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")
_UNCLEAN = re.compile(r"[\\%?:]|//|^/|(^|/)\.{1,2}/|/$")
_WHERE_URLS_END = re.compile(r"[?#]")

Key = Callable[[str], str]


class ImageNames:
    """The names of a source's images, to match the ids of rows with."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = list(names)

    @cached_property
    def folders(self) -> list[str]:
        """The folders at the top that hold images."""
        return sorted({name.partition("/")[0] for name in self._names if "/" in name})

    def may_name(self, cell: str) -> bool:
        """Return True if a cell may be the id of an image on any rung."""
        name = _composed(cell).strip()
        if not name:
            return False
        if self.is_spelled(name):
            return True
        last = _file(_cleaned(name))
        return _without_extension(last).casefold() in self._stems or _number(last) in self._stems

    def is_spelled(self, name: str) -> bool:
        """Return True if a name is that of one or more images on a documented rung."""
        return any(name in index for index in self._plain)

    def match(
        self, ids: Sequence[str], problems: Problems, place: str = "row", numbers: Sequence[int] | None = None
    ) -> list[str | None]:
        """Return the image of each row; None, which is counted, where an id fits none, several, or one that is taken.

        Args:
            ids: the ids of all rows of a table.
            problems: counts rows without an image, and ids that are matched on the lower rungs.
            place: what rows are counted in, for reports: "line", "row", ….
            numbers: the number of each row there (default: from 1).
        """
        found = self.find(ids, problems)
        used: set[str] = set()
        images: list[str | None] = []
        for number, id in zip(numbers or range(1, len(ids) + 1), ids, strict=True):
            image = found.get(id, "")
            if not id.strip():
                problems.add("row-without-id", f"{place} {number}")
            elif image is None:
                problems.add("id-ambiguous", id)
            elif not image:
                problems.add("row-without-image", id)
            elif image in used:
                problems.add("id-repeated", id)
            fits = bool(image) and image not in used
            images.append(image if fits else None)
            used.update([image] if fits and image else ())
        return images

    def match_each(self, ids: Iterable[str], problems: Problems) -> dict[str, str]:
        """Return id → image where an image may have several rows; ids that fit none or several are counted."""
        ids = list(dict.fromkeys(ids))
        found = self.find(ids, problems)
        for id in ids:
            if not found.get(id):
                problems.add("id-ambiguous" if id in found else "row-without-image", id)
        return {id: image for id, image in found.items() if image}

    def describe_mismatch(self, ids: Iterable[str]) -> str:
        """Return why no id fits an image, in a clause for a message: some of both."""
        filled = list(dict.fromkeys(id for id in ids if id.strip()))
        some, names = shorten_names(filled[:3]), shorten_names(self._names[:3])
        if not filled:
            return f"its ids are empty; the images are named like {names}"
        if ambiguous := self.describe_ambiguous(filled):
            return ambiguous
        numbers = sum(bool(_number(id)) for id in filled) * 2 > len(filled)
        named = any(_number(_file(name)) for name in self._names)
        reason = "; numbers alone do not name them" if numbers and not named else ""
        return f"its ids are like {some}, but the images are named like {names}{reason}"

    def describe_ambiguous(self, ids: Iterable[str]) -> str:
        """Return a clause on ids that fit several images each; "" if most of them do not."""
        ids = list(dict.fromkeys(id for id in ids if id.strip()))
        found = self.find(ids, Problems())
        several = [id for id in ids if id in found and found[id] is None]
        if not several or len(several) * 2 < len(ids):
            return ""
        name = several[0]
        stem = _without_extension(_file(_cleaned(name))).casefold()
        fits = [image for image in self._names if _without_extension(_file(image)).casefold() == stem]
        listed = f", such as {' and '.join(map(repr, fits[:2]))} for {name!r}" if len(fits) > 1 else ""
        return f"its ids fit several images each{listed}; write the folder or the extension into the ids"

    def find(self, ids: Iterable[str], problems: Problems) -> dict[str, str | None]:
        """Return id → image, or None if it fits several; ids that are empty or fit none are not in it.

        Args:
            ids: all ids of a table, each once or several times.
            problems: counts those that are matched on the lower rungs.
        """
        found: dict[str, str | None] = {}
        ids = [id for id in dict.fromkeys(ids) if id.strip()]
        left = [id for id in ids if not self._find_plainly(id, found)]
        paths = {id: _cleaned(id) for id in ids} if left else {}
        images = {name: _cleaned(name) for name in self._names} if left else {}
        for code, key in _RUNGS:
            if not left:
                break
            same, other = _match_tails(*_alike({id: paths[id] for id in left}, images, key))
            if not any(found.values()) and not any(same.values()):
                same |= other
            matched = _without_rivals(same, {image for image in found.values() if image})
            for id in [id for id, image in matched.items() if image]:
                problems.add(code, id)
            found |= matched
            left = [id for id in left if id not in found]
        return found

    def _find_plainly(self, id: str, found: dict[str, str | None]) -> bool:
        """Find an image on the documented rungs."""
        name = _composed(id).removeprefix("./").strip()
        for index in self._plain:
            if name in index:
                found[id] = index[name]
                return True
        return False

    @cached_property
    def _plain(self) -> list[dict[str, str | None]]:
        """The documented rungs: the path, the path below a common folder, and the bare name."""
        common = posixpath.commonpath([posixpath.dirname(f"/{name}") for name in self._names] or ["/"])
        prefix = common[1:] + "/" if common != "/" else ""
        rungs: list[Key] = [str, lambda path: path.removeprefix(prefix).removeprefix("images/"), _file]
        indices: list[dict[str, str | None]] = [{} for _ in rungs]
        for name in self._names:
            path = _composed(name)
            for rung, index in zip(rungs, indices, strict=True):
                spelling = rung(path)
                for key in {spelling, spelling.strip(), spelling.rpartition(".")[0].strip()}:
                    index[key] = name if index.get(key, name) == name else None
        return indices

    @cached_property
    def _stems(self) -> set[str]:
        stems = {_without_extension(_file(_composed(name))).casefold() for name in self._names}
        return stems | {number for stem in stems if (number := _number(stem))}


def _alike(ids: dict[str, str], images: dict[str, str], key: Key) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Return the parts of the ids and images, in one spelling, whose last part occurs on both sides."""
    spelled_ids = {id: key(path) for id, path in ids.items()}
    spelled_images = {name: key(path) for name, path in images.items()}
    both = set(map(_file, spelled_ids.values())).intersection(map(_file, spelled_images.values())) - {""}
    return (
        {id: path.split("/") for id, path in spelled_ids.items() if _file(path) in both},
        {name: path.split("/") for name, path in spelled_images.items() if _file(path) in both},
    )


def _match_tails(
    ids: dict[str, list[str]], images: dict[str, list[str]]
) -> tuple[dict[str, str | None], dict[str, str | None]]:
    """Return id → the image with the same last parts, the longest first; None if several have them.

    The second result has the pairs that differ in a folder before these parts: most often another image.
    """
    same: dict[str, str | None] = {}
    other: dict[str, str | None] = {}
    deepest = (max(map(len, paths.values()), default=0) for paths in (ids, images))
    waiting = list(ids)
    for count in range(min(_MAX_PARTS, *deepest), 0, -1):
        tails = {id: "/".join(ids[id][-count:]) for id in waiting if len(ids[id]) >= count}
        by_tail = _by_tail(images, count) if tails else {}
        for id, tail in tails.items():
            if tail not in by_tail:
                continue
            image = by_tail[tail]
            is_whole = image is None or count in (len(ids[id]), len(images[image]))
            (same if is_whole else other)[id] = image
        waiting = [id for id in waiting if id not in same and id not in other]
    return same, other


def _by_tail(paths: dict[str, list[str]], count: int) -> dict[str, str | None]:
    """Return the last parts → path that ends in them; None if several do."""
    found: dict[str, str | None] = {}
    for name, parts in paths.items():
        if len(parts) >= count:
            tail = parts[-1] if count == 1 else "/".join(parts[-count:])
            found[tail] = None if tail in found else name
    return found


def _without_rivals(matched: dict[str, str | None], taken: set[str]) -> dict[str, str | None]:
    """Return the matches with None for images that several ids fit, and for those that are taken."""
    counts = Counter(image for image in matched.values() if image)
    return {id: image if image and counts[image] == 1 and image not in taken else None for id, image in matched.items()}


def _composed(text: str) -> str:
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def _cleaned(path: str) -> str:
    """Return a path or URL of any system with plain slashes, without what is no part of a name."""
    path = _composed(path).strip()
    if not _UNCLEAN.search(path):
        return path
    if _URL.match(path):
        path = _WHERE_URLS_END.split(path, maxsplit=1)[0]
    parts = (unquote(path) if "%" in path else path).replace("\\", "/").split("/")
    parts[-1] = _without_query(parts[-1])
    return "/".join(part for part in parts if part not in ("", ".", ".."))


def _without_query(name: str) -> str:
    before = name.partition("?")[0]
    return before if _has_image_extension(before) else name


def _file(path: str) -> str:
    return path.rpartition("/")[2]


def _has_image_extension(name: str) -> bool:
    dot = name.rfind(".")
    return dot > 0 and name[dot:].lower() in EXTENSIONS


def _without_extension(name: str) -> str:
    return name[: name.rfind(".")] if _has_image_extension(name) else name


def _number(name: str) -> str:
    """Return the whole number that a file name or id is, without zeros before it; "" if it is none."""
    whole = _WHOLE.fullmatch(_without_extension(name))
    return whole[1].lstrip("0") or "0" if whole else ""


def _by_number(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{number}" if (number := _number(name)) else ""


_RUNGS: tuple[tuple[str, Key], ...] = (
    ("id-matched-by-path", str),
    ("id-matched-by-case", str.casefold),
    ("id-matched-without-extension", lambda path: _without_extension(path.casefold())),
    ("id-matched-by-number", lambda path: _by_number(path.casefold())),
)
