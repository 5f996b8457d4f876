"""What every reader of tagged pictures brings: items, one a picture, and what was amiss on the way."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shards.files import first
from shards.schema import Attribute

_NAME = 200  # letters of a name in a report


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
        """The file's content; a pipe or device is none."""
        with open(self.path, "rb", buffering=0, opener=_opened) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(0, "not a regular file")
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
class Problems:
    """Counts of what was amiss, by kind, with the names of the first few."""

    found: dict[str, list[str]] = field(default_factory=dict)

    def add(self, kind: str, name: str) -> None:
        """Count one more of a kind ("rows without a picture"), by name."""
        self.found.setdefault(kind, []).append(name if len(name) <= _NAME else f"{name[:_NAME]}…")

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
