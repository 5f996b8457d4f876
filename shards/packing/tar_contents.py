"""The contents of tars of images: the shape, format and damage of every image, and the hash of every tar."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from shards.core import atomic_io, process_pool
from shards.core.errors import Failure
from shards.dataset import images
from shards.dataset.image_shape import ImageShape
from shards.sources.image_refs import TarMember
from shards.sources.item import Item, Source

_SMALL = 16  # pixels; to check an image, it is decoded to this size


class Tar(NamedTuple):
    """A tar to inspect, with its images in the order of the tar."""

    path: Path
    members: tuple[TarMember, ...]
    check: bool
    channels: int


class TarContents(NamedTuple):
    """The properties of a tar and of each of its images.

    Attributes:
        path, members: as in the `Tar`.
        bytes, sha256: of the tar.
        shapes: width and height after EXIF rotation; zeros for a damaged image.
        forms: the format if no conversion is needed at the image's own size ("jpg", "png", "webp", "raw"), else
            "other"; and the number of bytes before the pixels of a raw image.
        damage: why the image cannot be used; "" if it can.
    """

    path: Path
    members: tuple[TarMember, ...]
    bytes: int
    sha256: str
    shapes: list[tuple[int, int]]
    forms: list[tuple[str, int]]
    damage: list[str]


def inspect_tars(
    src: Path, names: list[str], source: Source, *, check: bool, channels: int, workers: int
) -> list[TarContents]:
    """Inspect tars in processes, in the order of their names, and sort the source's items in the same way.

    Args:
        src: the folder of the tars.
        names: of the tars, sorted.
        source: whose images they hold.
        check: also decode every image.
        channels: of the dataset, 1, 3 or 4; what needs no conversion depends on it.
        workers: number of processes; 0: one per core.

    Raises:
        Failure: a tar cannot be read, or a worker was killed.
    """

    def position(item: Item) -> tuple[str, int]:
        assert isinstance(item.image, TarMember)
        return item.image.tar.name, item.image.offset

    source.items.sort(key=position)
    members: dict[str, tuple[TarMember, ...]] = dict.fromkeys(names, ())
    for name, items in groupby(source.items, key=lambda item: position(item)[0]):
        members[name] = tuple(item.image for item in items if isinstance(item.image, TarMember))
    tasks = [Tar(src / name, members[name], check, channels) for name in names]
    processes = min(workers or process_pool.available_cores(), len(tasks))
    found = process_pool.run(inspect_tar, tasks, workers=processes, total=len(source.items), doing="indexing")
    return sorted(found, key=lambda tar: tar.path.name)


def inspect_tar(tar: Tar) -> TarContents:
    """Read the header of every image in a tar, and hash the tar.

    Raises:
        Failure: the tar cannot be read.
    """
    shapes: list[tuple[int, int]] = []
    forms: list[tuple[str, int]] = []
    damage: list[str] = []
    try:
        sha256, size = atomic_io.sha256(tar.path), tar.path.stat().st_size
    except OSError as error:
        raise Failure("file-unreadable", f"{tar.path}: cannot be read ({error.strerror})") from None
    for member in tar.members:
        shape, form, why = (0, 0), ("other", 0), ""
        try:
            data = member.read()
            shape, form = images.dimensions(data), images.native(data, tar.channels)
            if tar.check:
                images.pixels(data, ImageShape.of(_SMALL))
        except (images.ImageError, OSError) as error:
            why = str(error.strerror if isinstance(error, OSError) else error) or "cannot be read"
        shapes.append(shape)
        forms.append(form)
        damage.append(why)
        process_pool.advance()
    return TarContents(tar.path, tar.members, size, sha256, shapes, forms, damage)
