"""Scores of tags with blanks between: ``blue_hair 0.98``, as taggers print them, in either order."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from typing import Literal

from shards.sources.tag_cells.lists import Weighted

Place = Literal["", "after", "before"]

_NEARLY_ALL = 0.9  # pieces with a score
_SCORE = r"(?:[0-9]*\.[0-9]+(?:e-?[0-9]+)?|[0-9]+(?:\.[0-9]+)? ?%|[01])"
_SCORED = {
    "after": re.compile(rf"(?P<tag>\S.*?)\s+(?P<score>{_SCORE})", re.DOTALL | re.IGNORECASE),
    "before": re.compile(rf"(?P<score>{_SCORE})\s*[:\s]\s*(?P<tag>\S.*)", re.DOTALL | re.IGNORECASE),
}
_ALONE = re.compile(r"[0-9]*\.[0-9]+|[0-9]+(?:\.[0-9]+)? ?%", re.IGNORECASE)


def score_place(cells: Iterable[list[str]]) -> Place:
    """Return where the pieces of a column have scores; "" if they have none.

    Nearly all pieces have one, and most of these are no whole numbers: ``iphone 12`` and ``apple 2`` are names. So are
    ``height 1.7`` and ``width 0.5`` if every cell has the same words: without the numbers nothing would be left.
    """
    cells = [with_own_scores(cell) for cell in cells]
    pieces = [piece for cell in cells for piece in cell]
    places: tuple[Place, ...] = ("after", "before")
    for place in places:
        scored = [tag for piece in pieces if (tag := without_score(piece, place))[1] is not None]
        broken = sum("." in piece or "%" in piece for piece in pieces)
        if not scored or len(scored) < _NEARLY_ALL * len(pieces) or broken * 2 < len(pieces):
            continue
        uses = Counter(tag for tag, _ in scored)
        if len(cells) < 3 or min(uses.values()) < 0.95 * len(cells):
            return place
    return ""


def without_score(piece: str, place: Place) -> Weighted:
    """Return a tag without the score beside it, and the score; None if it has none."""
    found = _SCORED[place].fullmatch(piece.strip()) if place else None
    if not found or not any(map(str.isalpha, found["tag"])):
        return piece, None
    score = found["score"]
    return found["tag"].strip(), float(score.rstrip(" %")) / (100 if score.endswith("%") else 1)


def with_own_scores(pieces: list[str]) -> list[str]:
    """Return pieces, of which scores that were split from their tags are joined with these: "cat" and "0.98"."""
    joined: list[str] = []
    for piece in pieces:
        if joined and _ALONE.fullmatch(piece) and without_score(joined[-1], "after")[1] is None:
            joined[-1] += f" {piece}"
        else:
            joined.append(piece)
    return joined
