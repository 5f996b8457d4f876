"""Words behind the name of an image, with blanks between them: one label of several words, or several labels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from enum import Enum, auto

_CLEAR = 0.9  # of the lines with several words must be of one kind
_LONGEST = 5.0  # words on average, above which lines are sentences


class Words(Enum):
    """What the words of a line are."""

    ONE = auto()  # "polar bear"
    SEVERAL = auto()  # "cat hat scarf"
    UNCLEAR = auto()


def read_words(lines: Iterable[tuple[str, ...]]) -> Words:
    """Return what the words of lines are together.

    Words that stand alone in other lines, or in other company, are labels of their own. If a word has the same company
    in several lines, and none of these words ever stands alone, they are one label.
    """
    counts = Counter(words for words in lines if words)
    phrases = {words: count for words, count in counts.items() if len(words) > 1}
    total = sum(phrases.values())
    if not total or sum(len(words) * count for words, count in phrases.items()) > _LONGEST * total:
        return Words.ONE
    alone = {words[0] for words in counts if len(words) == 1}
    company = Counter(word for words in phrases for word in set(words))
    kinds = Counter[Words]()
    for words, count in phrases.items():
        kinds[_kind(words, count, alone, company)] += count
    kind, most = kinds.most_common(1)[0]
    return kind if most >= _CLEAR * total else Words.UNCLEAR


def _kind(words: tuple[str, ...], count: int, alone: set[str], company: Counter[str]) -> Words:
    own = [word for word in words if word not in alone and company[word] == 1]
    if not own:
        return Words.SEVERAL
    return Words.ONE if alone.isdisjoint(words) and count > 1 else Words.UNCLEAR
