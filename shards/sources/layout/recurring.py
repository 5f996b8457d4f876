"""Innermost folders that are numbered and recur in the folders above: persons and series, or classes of their own."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

_NUMBERED = re.compile(r"(\D{0,20})\d+")
_LEAST = 3  # innermost names: two, such as 111 and 112, may be codes of the two values of something
_RECURRING = 0.5  # of the folders above that have an innermost name, on average


def doubt_of_innermost(labels: Collection[Sequence[str]]) -> str:
    """Return why the innermost of two or more levels of folders may be no class; "" if nothing speaks against it.

    ``happy/S001`` and ``sad/S001`` show one person, and ``Greek/character01`` and ``Latin/character01`` two letters, so
    that in neither case the innermost folder alone is what an image shows.

    Args:
        labels: the folders that say what images show, from the outside in, for each folder with images.
    """
    pairs = {(tuple(levels[:-1]), levels[-1]) for levels in labels if levels}
    above, names = {outer for outer, _ in pairs}, {name for _, name in pairs}
    if len({len(outer) for outer in above}) != 1 or len(above) < 2 or len(names) < _LEAST:
        return ""
    found = [_NUMBERED.fullmatch(name) for name in names]
    prefixes = {match[1].lower() for match in found if match}
    if not all(found) or len(prefixes) != 1 or len(pairs) < _RECURRING * len(above) * len(names):
        return ""
    first, outer = min(names), sorted("/".join(levels) for levels in above)
    return (
        f"folders such as {first[:60]}/ are in each of {outer[0][:60]}/, {outer[1][:60]}/"
        f"{' and others' if len(outer) > 2 else ''}: they may be persons or series, of which no class is to be made "
        "(--from-name '{class}/*/*' makes the folders above them the classes), or say what images show together with "
        "these (--source classes makes both levels attributes)"
    )
