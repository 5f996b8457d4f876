"""Matching the images of a source with the rows of a table, by id or file name, and with text files."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Iterator

from shards.core.problems import Problems
from shards.sources.file_tree import FileTree
from shards.sources.item import ImageRef


def image_finder(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return a function from an id to the names of the images that it fits.

    An id is the path in the folder, else the path in its images/, else the bare file name, each with or without the
    extension. Where none of these matches, spaces at both ends of file names are ignored.
    """
    by_rank: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
    for original in names:
        path = unicodedata.normalize("NFC", original)
        spellings = (path, path.removeprefix("images/"), path.rpartition("/")[2])
        stripped: set[str] = set()
        for by_name, name in zip(by_rank, spellings, strict=False):
            for spelling in (name, name.rpartition(".")[0]):
                by_name.setdefault(spelling, []).append(original)
                if spelling != spelling.strip():
                    stripped.add(spelling.strip())
        for spelling in stripped:
            by_rank[-1].setdefault(spelling, []).append(original)

    def find(name: str) -> list[str]:
        name = unicodedata.normalize("NFC", name).removeprefix("./")
        return next((by_name[name] for by_name in by_rank if name in by_name), [])

    return find


def match_image(
    find: Callable[[str], list[str]], name: str, matched: Iterable[str], at: str, problems: Problems
) -> str | None:
    """Return the one image that a row's id fits, unless an earlier row matched it; count a problem otherwise.

    Args:
        find: an `image_finder`.
        name: the row's id.
        matched: images that earlier rows matched.
        at: the row's name in reports, such as "line 7".
        problems: counts rows that match no image, or not one image only.
    """
    images = find(name)
    if not name:
        problems.add("row-without-id", at)
    elif not images:
        problems.add("row-without-image", name)
    elif len(images) > 1:
        problems.add("id-ambiguous", name)
    elif images[0] in matched:
        problems.add("id-repeated", name)
    else:
        return images[0]
    return None


def images_with_rows(
    tree: FileTree, matched: dict[str, int], what: str = "row"
) -> Iterator[tuple[str, ImageRef, int | None]]:
    """Yield (name, image, row) of all images of a tree; images without a row are counted, and have None as the row."""
    for name, image in tree.images.items():
        if name not in matched:
            tree.problems.add("image-unlabelled", name, detail=what)
        yield name, image, matched.get(name)
