"""Readers of tagged pictures as people keep them: each yields items, one a picture, and counts what is amiss."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from shards.errors import UserError
from shards.files import first
from shards.pictures import EXTENSIONS
from shards.schema import normalise

TAGS = "tags.csv"
_HIDDEN = ("__MACOSX", "Thumbs.db")


@dataclass(frozen=True)
class PictureFile:
    """A picture that is a file of its own. Other sources bring other handles: ``name``, ``stamp`` and ``read()``."""

    path: Path
    name: str

    def stamp(self) -> str:
        """Changes when the picture changes: its size and time of change."""
        status = self.path.stat()
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            OSError: the file cannot be read.
        """
        return self.path.read_bytes()


@dataclass(frozen=True)
class Item:
    """A picture and what is known of it.

    Attributes:
        id: what the source calls it.
        picture: where its bytes are.
        tags: normalised, in the source's order; None: the picture has no row.
    """

    id: str
    picture: PictureFile
    tags: tuple[str, ...] | None


@dataclass
class Problems:
    """Counts of what was amiss, by kind, with the names of the first few."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Count one more of a kind ("rows without a picture"), by name."""
        self.found.setdefault(kind, []).append(name)

    def counts(self) -> dict[str, int]:
        """Kind → how many."""
        return {kind: len(names) for kind, names in self.found.items()}

    def lines(self) -> list[str]:
        """One line a kind: how many, and the first five names (where there are names)."""
        return [
            f"{kind}: {len(names):,}" + (f" ({first(names)})" if any(names) else "")
            for kind, names in self.found.items()
        ]


@dataclass
class Source:
    """What a reader found.

    Attributes:
        kind: the reader's name, one of `KINDS`.
        items: the pictures, in order of their names.
        one_class: whether each picture has exactly one tag by construction.
        problems: what was amiss on the way.
    """

    kind: str
    items: list[Item]
    one_class: bool = False
    problems: Problems = field(default_factory=Problems)


def read(folder: Path, kind: str = "auto") -> Source:
    """Read tagged pictures from a folder.

    Args:
        folder: pictures with a tags.csv, or one folder of pictures per class.
        kind: "tags", "classes", or "auto" to see which it is.

    Raises:
        UserError: there is no such folder, it holds no pictures, its kind is unclear, or its table is broken.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: {'not a folder' if folder.exists() else 'no such folder'}; SRC is a folder of pictures"
        )
    closed: list[OSError] = []
    pictures = list(_pictures(folder, closed.append))
    if not pictures:
        raise UserError(
            f"{folder}: no pictures in it (looked for {', '.join(sorted(EXTENSIONS))}, in all folders below)"
            + (f"; {closed[0].filename} cannot be read" if closed else "")
        )
    source = READERS[_detect(folder, pictures) if kind == "auto" else kind](folder, pictures)
    for error in closed:
        source.problems.add("folders that cannot be read", str(error.filename))
    return source


def _detect(folder: Path, pictures: list[PictureFile]) -> str:
    if (folder / TAGS).is_file():
        return "tags"
    tops = {picture.name.split("/")[0] for picture in pictures if "/" in picture.name}
    loose = sum("/" not in picture.name for picture in pictures)
    if not loose and len(tops) > 1:
        return "classes"
    found = f"{loose} pictures at the top" if loose else f"the one folder {next(iter(tops))!r}"
    raise UserError(
        f"{folder}: what the pictures show is unclear: no {TAGS} (columns id,tags), and {found} rather than "
        f"a folder per class; add a {TAGS}, or say --source classes"
    )


def _pictures(folder: Path, closed: Callable[[OSError], None]) -> Iterator[PictureFile]:
    """All pictures below a folder, by name, through links but not in loops; ``closed`` hears of unreadable folders."""
    seen: set[tuple[int, int]] = set()
    for root, folders, names in os.walk(folder, onerror=closed, followlinks=True):
        status = os.stat(root)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not _hidden(name))
        for name in sorted(names):
            if not _hidden(name) and os.path.splitext(name)[1].lower() in EXTENSIONS:  # noqa: PTH122 - many files
                path = Path(root, name)
                name = os.fsencode(path.relative_to(folder).as_posix()).decode("utf-8", "replace")
                yield PictureFile(path, name)


def _hidden(name: str) -> bool:
    return name.startswith(".") or name in _HIDDEN


# ---------------------------------------------------------------- a folder per class


def _read_classes(folder: Path, pictures: list[PictureFile]) -> Source:
    source = Source("classes", [], one_class=True)
    for picture in pictures:
        label, slash, _ = picture.name.partition("/")
        if not slash:
            source.problems.add("pictures outside a class folder (kept, unlabelled)", picture.name)
        source.items.append(Item(picture.name, picture, (normalise(label),) if slash else None))
    if all(item.tags is None for item in source.items):
        raise UserError(f"{folder}: no class folders (SRC/CLASS/picture.png) in it")
    return source


# ---------------------------------------------------------------- a table of tags


def _read_tags(folder: Path, pictures: list[PictureFile]) -> Source:
    table = folder / TAGS
    if not table.is_file():
        raise UserError(f"{table}: missing; --source tags needs it, with columns id,tags")
    source = Source("tags", [])
    find = _finder(pictures)
    tags: dict[int, tuple[str, ...]] = {}
    empty = True
    for line, name, words in _rows(table):
        empty = False
        matches = find(name)
        if not name:
            source.problems.add("rows without an id (left out)", f"line {line}")
        elif not matches:
            source.problems.add("rows without a picture (left out)", name)
        elif len(matches) > 1:
            source.problems.add(
                "ids that fit several pictures (left out; write the id with folder and extension)", name
            )
        elif matches[0] in tags:
            source.problems.add("rows with an id that stood before (the first row counts)", name)
        else:
            tags[matches[0]] = words
    if empty:
        raise UserError(f'{table}: no rows under its header; write one for each picture: id,"tag, tag"')
    if not tags:
        rows = next(iter(source.problems.found.values()))
        raise UserError(f"{table}: none of its ids is a picture in {folder} (first: {first(rows)})")
    for number, picture in enumerate(pictures):
        if number not in tags:
            source.problems.add("pictures without a row (kept, unlabelled)", picture.name)
        source.items.append(Item(picture.name, picture, tags.get(number)))
    return source


def _finder(pictures: list[PictureFile]) -> Callable[[str], list[int]]:
    """Look up pictures by id: the path in the folder, else the path in its images/, else the bare file name;
    each with or without the extension."""
    ranks: tuple[dict[str, list[int]], ...] = ({}, {}, {})
    for number, picture in enumerate(pictures):
        path = unicodedata.normalize("NFC", picture.name)
        for places, name in zip(ranks, (path, path.removeprefix("images/"), path.rpartition("/")[2]), strict=True):
            for spelling in (name, name.rpartition(".")[0]):
                places.setdefault(spelling, []).append(number)

    def find(name: str) -> list[int]:
        name = unicodedata.normalize("NFC", name).removeprefix("./")
        return next((places[name] for places in ranks if name in places), [])

    return find


def _rows(table: Path) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    """(line, id, tags) of each row of a tags.csv.

    Raises:
        UserError: no UTF-8, no such columns, broken quotes, cells too many: by line.
    """
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            yield from _parsed(table, file)
    except UnicodeDecodeError:
        raise UserError(f"{table}, line {_undecodable(table)}: not UTF-8; save the table as UTF-8 text") from None
    except OSError as error:
        raise UserError(f"{table}: cannot be read ({error.strerror})") from None


def _parsed(table: Path, file: TextIO) -> Iterator[tuple[int, str, tuple[str, ...]]]:
    reader = csv.reader(file, strict=True)
    try:
        header = [cell.strip().lower() for cell in next(reader, [])]
        if not header:
            raise UserError(f"{table}: empty; it needs the columns id,tags")
        if missing := [column for column in ("id", "tags") if column not in header]:
            raise UserError(f"{table}, line 1: no column {' and no '.join(missing)}; the columns are {first(header)}")
        name, tags = header.index("id"), header.index("tags")
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if len(row) > len(header):
                raise UserError(
                    f"{table}, line {reader.line_num}: {len(row)} cells under {len(header)} columns; "
                    "put tags that are separated by commas in quotes"
                )
            row += [""] * (len(header) - len(row))
            words = (normalise(word) for word in row[tags].split(","))
            yield reader.line_num, row[name].strip(), tuple(dict.fromkeys(word for word in words if word))
    except csv.Error as error:
        raise UserError(f"{table}, line {reader.line_num}: {error}; check the quotes there") from None


def _undecodable(table: Path) -> int:
    """The first line that is not UTF-8."""
    with table.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1


READERS: dict[str, Callable[[Path, list[PictureFile]], Source]] = {"tags": _read_tags, "classes": _read_classes}
KINDS = ("auto", *READERS)
