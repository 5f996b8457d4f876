"""The result of reading any source: items (an image and what is known of it), and the source as a whole."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from shards.core.problems import Problems
from shards.dataset.schema import Attribute

MAX_BYTES = 1 << 30  # of one image or table


class ImageRef(Protocol):
    """A reference to the bytes of one image. Picklable, so that worker processes can read the image."""

    def stamp(self) -> str:
        """Return a text that changes when the image changes.

        Raises:
            OSError: the file cannot be accessed.
        """
        ...

    def read(self) -> bytes:
        """Return the encoded image.

        Raises:
            OSError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class ImageFile:
    """An image that is a file; ``name`` is its path below the source's folder.

    ``path`` may be a string: a million of these take a third of the memory then.
    """

    path: Path | str
    name: str

    def stamp(self) -> str:
        """Return the file's size and modification time."""
        status = os.stat(self.path)  # noqa: PTH116
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self) -> bytes:
        """Return the file's content; raise OSError for a pipe or device, and for a file too large to be an image."""
        with open(self.path, "rb", buffering=0, opener=_open_nonblocking) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "not a regular file")
            if status.st_size > MAX_BYTES:
                raise OSError(0, f"refused: {status.st_size:,} bytes")
            return file.readall()


def _open_nonblocking(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # opening a pipe without a writer would block forever


@dataclass(frozen=True, slots=True)
class Item:
    """An image and what is known of it.

    Attributes:
        id: its name in the source; unique there.
        image: a reference to its bytes.
        tags: normalised words that apply to it, in the source's order; None if the source says nothing.
        denied: normalised words that, according to the source, do not apply to it.
        caption: a sentence about it.
        vector: numbers that are its label; all vectors of a source have one length.
        group: images of one group (a person, a film) stay on one side of a train/validation split.
        part: the part of the dataset that the source puts it in: "train", "validation", "test" or "unlabelled".
    """

    id: str
    image: ImageRef
    tags: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()
    caption: str | None = None
    vector: tuple[float, ...] | None = None
    group: str | None = None
    part: str | None = None


class ColumnUse(NamedTuple):
    """The use that was made of one column of a table, for people.

    Attributes:
        name: the column.
        becomes: what it is used as, such as "id", "tags", "exclusive attribute, 7 values", or "" if it is left out.
        why: the evidence, or the reason why it is left out and the option that would use it.
    """

    name: str
    becomes: str
    why: str = ""


@dataclass
class Source:
    """All items of a source.

    Attributes:
        kind: the format's name, one of `shards.sources.registry.FORMATS`.
        items: one per image, in an order that depends on the source alone.
        one_class: True if each image has exactly one tag by construction.
        attributes: attributes that the source itself defines (a table's columns: columns of words are exclusive
            attributes, columns of yes and no are tags). Their values are known only where the row says yes (in
            ``tags``) or no (in ``denied``).
        problems: counts of what could not be used, and of what was read in a way that a person should know of.
        evidence: why the source is read as it is, in a few words for people.
        columns: what became of each column, if there is a table.
        rows: item's id → (where its label came from, such as "tags.csv, line 7", and the row as it is written there);
            empty unless `ScanOptions.keep_rows`.
        rare: tags that packing leaves out since few images have them → how many.
    """

    kind: str
    items: list[Item]
    one_class: bool = False
    attributes: tuple[Attribute, ...] = ()
    problems: Problems = field(default_factory=Problems)
    evidence: str = ""
    columns: tuple[ColumnUse, ...] = ()
    rows: dict[str, tuple[str, str]] = field(default_factory=dict)
    rare: dict[str, int] = field(default_factory=dict)
