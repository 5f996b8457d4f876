"""What every reader of tagged pictures brings: items, one a picture, and what was amiss on the way."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shards.core.problems import Problems
from shards.dataset.schema import Attribute

LARGEST = 1 << 30  # bytes of one picture or table


class Picture(Protocol):
    """Where the bytes of one picture are. Picklable: worker processes read it."""

    def stamp(self) -> str:
        """Changes when the picture changes.

        Raises:
            OSError: it cannot be looked at.
        """
        ...

    def read(self) -> bytes:
        """The encoded picture.

        Raises:
            OSError: it cannot be read.
        """
        ...


@dataclass(frozen=True, slots=True)
class PictureFile:
    """A picture that is a file of its own; ``name`` is its path below the source's folder.

    ``path`` may be text: a million of these take a third of the memory then.
    """

    path: Path | str
    name: str

    def stamp(self) -> str:
        """Its size and time of change."""
        status = os.stat(self.path)  # noqa: PTH116
        return f"{status.st_size} {status.st_mtime_ns}"

    def read(self) -> bytes:
        """The file's content; a pipe or device has none, and what is too large to be a picture is not read."""
        with open(self.path, "rb", buffering=0, opener=_opened) as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise OSError(0, "not a regular file")
            if status.st_size > LARGEST:
                raise OSError(0, f"refused: {status.st_size:,} bytes")
            return file.readall()


def _opened(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe without a writer would wait for ever


@dataclass(frozen=True, slots=True)
class Item:
    """A picture and what is known of it.

    Attributes:
        id: what the source calls it; unique in its source.
        picture: where its bytes are.
        tags: normalised words that are there, in the source's order; None: nothing is said.
        denied: normalised words of which the source says that they are not there.
        caption: a sentence about it.
        vector: numbers that are its label; of one length in a source.
        group: pictures of one group (a person, a film) belong on one side of a train/validation split.
    """

    id: str
    picture: Picture
    tags: tuple[str, ...] | None = None
    denied: tuple[str, ...] = ()
    caption: str | None = None
    vector: tuple[float, ...] | None = None
    group: str | None = None


@dataclass
class Source:
    """What a reader found.

    Attributes:
        kind: the reader's name, one of `shards.sources.KINDS`.
        items: the pictures, in an order that depends on the source alone.
        one_class: whether each picture has exactly one tag by construction.
        given: attributes that the source itself states (a table's columns: string columns are exclusive, columns of
            yes and no are tags). A given tag is known only where its row says yes (in ``tags``) or no (in ``denied``).
        problems: what was amiss on the way.
    """

    kind: str
    items: list[Item]
    one_class: bool = False
    given: tuple[Attribute, ...] = ()
    problems: Problems = field(default_factory=Problems)
