"""Weights and counts of tags: ``(blue hair:1.2)`` of prompts, ``blue hair:7000`` of boorus, ``blue hair (0.93)``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from shards.sources.tag_cells.lists import Weighted

Suffix = Literal["", "colon", "score"]

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+")
_SCORE = re.compile(r"[0-9]*\.[0-9]+|[0-9]+(?:\.[0-9]+)? ?%")
_KEY = re.compile(r"\w:\S")
_OPEN, _CLOSE = "([{", ")]}"
_DEEPEST = 16  # brackets around one tag
_FARTHEST = 4  # pieces between brackets within one tag
_FACTOR = {"(": 1.1, "[": 1 / 1.1, "{": 1.05}  # what brackets mean in prompts


def suffix_of(cells: Iterable[list[str]]) -> Suffix:
    """Return how the pieces of a column write weights: after a colon, as a score in brackets, or not at all.

    ``rating:general`` and ``hair:blue`` are names. So are ``age:23`` and ``height:170`` if every cell has the same
    keys: without the numbers nothing would be left.
    """
    rows = pieces = colons = scores = names = 0
    keys: dict[str, int] = {}
    for cell in cells:
        rows += 1
        for piece in cell:
            pieces += 1
            tag, weight = without_suffix(piece, "colon")
            if weight is not None:
                colons += 1
                if len(keys) < 100_000:
                    keys[tag] = keys.get(tag, 0) + 1
            elif without_suffix(piece, "score")[1] is not None:
                scores += 1
            elif _KEY.search(piece):
                names += 1
    if colons and colons * 2 >= pieces and colons >= 20 * names:
        same = rows > 2 and all(count >= 0.95 * rows for count in keys.values())
        return "" if same else "colon"
    return "score" if scores and scores * 2 >= pieces else ""


def without_suffix(piece: str, suffix: Suffix) -> Weighted:
    """Return a tag and the weight after it; None if it has none."""
    if suffix == "score" and piece.endswith((")", "]")):
        tag, _, number = piece[:-1].rpartition("(" if piece[-1] == ")" else "[")
    elif suffix == "colon":
        tag, _, number = piece.rpartition(":")
    else:
        return piece, None
    tag, number = tag.strip(), number.strip()
    if not (_SCORE if suffix == "score" else _NUMBER).fullmatch(number) or not any(map(str.isalpha, tag)):
        return piece, None
    return tag, float(number.rstrip(" %")) / (100 if number.endswith("%") else 1)


def rejoin(pieces: list[str]) -> list[str]:
    """Return pieces with those joined that were split inside brackets: "dress (red" and "long)"."""
    joined: list[str] = []
    start = None  # of the pieces since a bracket that opened within a piece
    for piece in pieces:
        joined.append(piece)
        if start is not None and piece.count(")") > piece.count("("):
            joined[start:] = [", ".join(joined[start:])]
            start = None
        elif start is not None and len(joined) - start > _FARTHEST:
            start = None
        elif start is None and piece[0] not in _OPEN and piece.count("(") > piece.count(")"):
            start = len(joined) - 1
    return joined


def without_brackets(pieces: Iterable[str]) -> list[Weighted]:
    """Return tags without the brackets that weigh them in prompts; a bracket may span several tags.

    ``name (series)`` keeps its brackets, and so do escaped ones.
    """
    result: list[Weighted] = []
    waiting: list[tuple[str, int]] = []  # brackets that are open, and the first tag in each
    for piece in pieces:
        factor: float | None = None
        text = piece.strip()
        for _ in range(_DEEPEST):
            if not text:
                break
            partner = _partner(text) if text[0] in _OPEN else None
            if partner == len(text) - 1 and _has_letter(text):
                inner, weight = without_suffix(text[1:-1].strip(), "colon")
                factor = (factor or 1.0) * (weight or _FACTOR[text[0]])
                text = inner
            elif text[0] in _OPEN and partner is None and _has_letter(text) and len(waiting) < _DEEPEST:
                waiting.append((text[0], len(result)))
                text = text[1:].lstrip()
            else:
                break
        result.append((text, factor))
        _close(result, waiting)
    return result


def _close(result: list[Weighted], waiting: list[tuple[str, int]]) -> None:
    """Remove brackets from the end of the last tag that close those before it, and weigh all tags between."""
    while waiting and result[-1][0][-1:] == _CLOSE[_OPEN.index(waiting[-1][0])] and not _is_closed(result[-1][0]):
        bracket, first = waiting.pop()
        text, factor = result[-1]
        inner, weight = without_suffix(text[:-1].strip(), "colon")
        result[-1] = inner, factor
        for number in range(first, len(result)):
            tag, factor = result[number]
            result[number] = tag, (factor or 1.0) * (weight or _FACTOR[bracket])


def _partner(text: str) -> int | None:
    """Return the position of the bracket that closes the first one; None if there is none."""
    opening = text[0]
    closing, depth, at = _CLOSE[_OPEN.index(opening)], 0, 0
    while at < len(text):
        if text[at] == "\\":
            at += 1
        elif text[at] == opening:
            depth += 1
        elif text[at] == closing:
            depth -= 1
            if not depth:
                return at
        at += 1
    return None


def _is_closed(text: str) -> bool:
    """Return True if the last bracket of a text closes one in it, or is escaped."""
    closing = text[-1]
    plain = re.sub(r"\\.", "", text)
    return not plain.endswith(closing) or plain.count(_OPEN[_CLOSE.index(closing)]) >= plain.count(closing)


def _has_letter(text: str) -> bool:
    return any(letter.isalnum() for letter in text)
