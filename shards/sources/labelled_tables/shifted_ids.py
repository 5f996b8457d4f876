"""Tables that only count their rows from 0, beside images that are numbered from 1, or the other way round."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Sequence

from shards.core.errors import UserError
from shards.sources.cells import shorten_names

_NUMBER = re.compile(r"0*(\d+)(\.\w+)?")
_FEWEST = 3  # rows


def check_numbering(
    where: str, column: str, ids: Sequence[str], matched: Sequence[str | None], images: Iterable[str]
) -> None:
    """Raise UserError if every label may belong to the next image: the numbers of rows and images are off by one.

    Args:
        where: the table, for messages.
        column: the one that names the images.
        ids: its cells, in the order of the rows.
        matched: the image of each row.
        images: the names of all images.
    """
    counted = [int(id) if id.isdecimal() and len(id) < 10 else -1 for id in ids]
    if len(ids) < _FEWEST or counted[0] not in (0, 1) or counted != list(range(counted[0], counted[0] + len(ids))):
        return
    at = 0 if counted[0] == 0 else len(ids) - 1
    left = {*images} - {*matched}
    if matched[at] is not None or matched.count(None) != 1 or len(left) != 1:
        return
    image = left.pop()
    found = _NUMBER.fullmatch(posixpath.basename(image))
    if found is None or int(found[1]) != (len(ids) if at == 0 else 0):
        return
    raise UserError(
        "ids-off-by-one",
        f"{where}: its column {shorten_names([column])} counts the rows from {counted[0]}, but the images are numbered "
        f"from {1 - counted[0]}: row {ids[at]} has no image, and {image} has no row. If row {ids[0]} is of the first "
        f"image, write the names of the images into the table; if the numbers are right, set --id {column!r}",
    )
