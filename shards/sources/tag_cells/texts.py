"""Decide for all texts of a source at once whether they are tags, captions, classes, numbers, or no labels."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from shards.sources.cells import InvalidValue
from shards.sources.tag_cells.boxes import are_boxes
from shards.sources.tag_cells.dialect import TagDialect
from shards.sources.tag_cells.lists import Weighted, flatten, read_list
from shards.sources.tag_cells.phrases import learn_phrases
from shards.vocabulary.spelling import normalise

Kind = Literal["tags", "captions", "numbers", "boxes", "codes", ""]

_SAMPLE = 20_000  # texts are enough to tell
_MOSTLY = 0.9
_MAX_TAG = 40  # characters; longer pieces suggest captions
_MAX_NUMBER = 30
_MAX_BLANKS = 4  # of a tag
_NUMBER = re.compile(r"\s*[-+]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[-+]?\d+)?\s*", re.IGNORECASE)
_CODE = re.compile(r"\s*(?:[0-9a-fA-F]{16,}|(?=[A-Za-z+/]*[0-9])[A-Za-z0-9+/]{24,}={0,2}|[a-z]+://\S+)\s*")
_ENDS = (".", "!", "?", "。", "！", "？")
_ARTICLES = ("a ", "an ", "the ")
_STRICT = {"often": 3.0, "understood": 0.95}  # phrases that are no captions


@dataclass(frozen=True)
class Texts:
    """The kind of a source's texts.

    Attributes:
        kind: "" if there are none.
        dialect: how tags are written; None if they are none.
        several: True if a text is several captions, one per line.
    """

    kind: Kind
    dialect: TagDialect | None = None
    several: bool = False

    @property
    def described(self) -> str:
        """The kind in words."""
        if self.dialect:
            return self.dialect.described
        return "several captions each" if self.several else self.kind or "empty"


def understand_texts(texts: Collection[str], *, forced: str = "", min_weight: float = 0) -> Texts:
    """Return what the texts of a source are.

    Args:
        texts: all of them.
        forced: "tags" or "caption" if a person has decided.
        min_weight: see `TagDialect`.
    """
    if not texts:
        return Texts("")
    step = max(1, len(texts) // _SAMPLE)
    texts = list(itertools.islice(texts, 0, None, step))
    dialect = TagDialect.infer(texts, min_weight=min_weight)
    if forced == "tags":
        return Texts("tags", dialect)
    captions = Texts("captions", several=are_several(texts))
    if forced == "caption":
        return captions
    if kind := _no_words(texts):
        return Texts(kind)
    if _are_tags(texts, dialect):
        return Texts("tags", dialect)
    return captions


def _no_words(texts: Collection[str]) -> Literal["numbers", "boxes", "codes", ""]:
    """Return what texts without words are; "" if most of them have words."""
    filled = [text for text in texts if text.strip()]
    if not filled:
        return ""
    if are_boxes(filled):
        return "boxes"
    if sum(len(text) < _MAX_NUMBER and _NUMBER.fullmatch(text) is not None for text in filled) >= _MOSTLY * len(filled):
        return "numbers"
    codes = sum(_CODE.fullmatch(text) is not None or _is_record(text) for text in filled)
    return "codes" if codes >= _MOSTLY * len(filled) else ""


def _is_record(text: str) -> bool:
    """Return True for JSON or XML that is no list of tags."""
    text = text.strip()
    return (text.startswith(("{", "[{")) and _list(text) is None) or text.startswith("<?xml")


def _list(text: str) -> list[Weighted] | None:
    """Return the tags of a list or object; None for other texts."""
    try:
        value = read_list(text)
        return None if value is None else flatten(value)
    except InvalidValue:
        return None


def _are_tags(texts: Collection[str], dialect: TagDialect) -> bool:
    if dialect.phrases:
        counts = Counter(texts)
        return learn_phrases(counts, **_STRICT) is not None
    lists = sum(_list(text) is not None for text in texts) if dialect.has_lists else 0
    return lists * 2 > len(texts) or looks_like_tags(texts, dialect) or _are_classes(texts, dialect)


def looks_like_tags(texts: Iterable[str], dialect: TagDialect | None = None) -> bool:
    """Return True if texts look like tags rather than captions: short pieces, most of them repeated."""
    texts = list(texts)
    dialect = dialect or TagDialect.infer(texts)
    counts: Counter[str] = Counter()
    rows = longer = several = 0
    for text in texts:
        pieces = [normalise(tag) for tag in dialect.pieces(text)]
        rows += 1
        several += len(pieces) > 1
        longer += any(map(_is_long, pieces))
        if len(counts) < 1_000_000:
            counts.update(pieces)
    if not rows or longer * 10 > rows:
        return False
    total, repeated = counts.total(), sum(count for count in counts.values() if count > 1)
    # Short captions without commas are repeated too ("a red fox"), but have articles.
    if sum(count for piece, count in counts.items() if piece.startswith(_ARTICLES)) * 5 > total:
        return False
    return bool(several) and (repeated * 2 >= total or several * 10 >= rows * 9)


def _is_long(piece: str) -> bool:
    return len(piece) > _MAX_TAG or piece.count(" ") > _MAX_BLANKS or piece.endswith(_ENDS)


def _are_classes(texts: Collection[str], dialect: TagDialect) -> bool:
    """Return True if each text is one of a few names, as files with one class each have them."""
    scored = (" ".join(dialect.pieces(text)) for text in texts)
    counts = Counter(map(normalise, scored if dialect.scores else texts))
    names = [name for name in counts if name]
    if not 1 < len(names) <= len(texts) / 3:
        return False
    return not any(_is_long(name) or name.count(" ") > 2 or f"{name} ".startswith(_ARTICLES) for name in names)


def are_several(texts: Iterable[str]) -> bool:
    """Return True if most texts are several captions, one per line, and not one caption with line breaks.

    A caption that is wrapped ends with a full stop in its last line only, or its later lines begin in lower case.
    """
    rows = several = 0
    for text in texts:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        rows += bool(lines)
        if len(lines) > 1:
            ends = [line.endswith(_ENDS) for line in lines]
            starts = [line[0].isupper() for line in lines]
            several += len(set(ends)) == 1 and len(set(starts)) == 1
    return several * 2 > rows
