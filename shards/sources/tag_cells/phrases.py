"""Learn the nouns and modifiers of a column of phrases, such as "blue long hair and yellow eyes".

Nothing but the column says which words are nouns. They end phrases, or parts before "and", "with" and commas; and a
word that stands in every phrase before other modifiers is one too: "hair" in "aqua hair red eyes". Each noun takes the
modifiers since the noun before it, and each modifier with its noun is a tag: blue hair, long hair, yellow eyes.

A column is one of phrases only if most cells have several such groups and the same tags recur in many combinations.
Class names ("black footed albatross") have one noun each, lists of tags have one tag between commas, and sentences have
words that phrases lack.
"""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from shards.vocabulary.grammar import DENIALS, FILLERS, LONGEST, Grammar, joined, parts

_CELLS = 20_000  # different cells to learn from
_ADVERBS = frozenset({"very", "light", "dark", "pale", "bright", "deep", "extremely", "super", "slightly", "dirty"})
_SENTENCE = frozenset(
    "in on at by for from to is are was were be been it its he she they his her their this that these those which who "
    "while when there into over under near behind beside sits stands sitting standing wearing i you we".split()
)
_BREAKS = re.compile(r"[\t\r\n]+|\|\|\|")
_SIGNS = re.compile(r"[^\w'’-]|[0-9]")
_TEMPLATE = 0.95  # of the phrases: a bare noun in so many, such as "photo" or "girl", tells nothing
_FEWEST = 3  # phrases to learn from
_MANY = 20  # phrases: words of a single one are odd then


class _Group(NamedTuple):
    """Modifiers and the noun that they belong to."""

    modifiers: tuple[str, ...]
    noun: str

    @property
    def tags(self) -> tuple[str, ...]:
        return tuple(f"{modifier} {self.noun}" for modifier in self.modifiers) or (self.noun,)


@dataclass(frozen=True)
class Phrases:
    """Modifiers and nouns learned from a column.

    Attributes:
        nouns: in the order of their frequency.
        grammar: of all tags; a tag's choice is its number.
        tags: all tags.
        template: bare nouns that nearly every phrase has, which are no labels.
    """

    nouns: tuple[str, ...]
    grammar: Grammar
    tags: tuple[str, ...]
    template: frozenset[str]

    def read(self, phrase: str) -> tuple[str, ...] | None:
        """Return the tags that a phrase names, denied ones left out; None if the grammar cannot read it."""
        words = _words(phrase)
        if not words or len(words) > LONGEST:
            return () if not words else None
        readings = self.grammar.readings(words)
        if not readings:
            return None
        chosen = min(readings, key=lambda reading: (len(reading), sorted(reading)))
        return tuple(
            self.tags[tag] for tag, present in sorted(chosen) if present and self.tags[tag] not in self.template
        )


def learn_phrases(cells: Mapping[str, int], *, often: float = 1.5, understood: float = 0.8) -> Phrases | None:
    """Return what a column of phrases consists of; None if its cells are no phrases.

    Args:
        cells: the text of each cell → how often it occurs.
        often: how many phrases must have a tag, on average.
        understood: fraction of the cells that must consist of groups.
    """
    sample = {cell: count for cell, count in itertools.islice(cells.items(), _CELLS) if cell.strip()}
    phrases = {cell: words for cell in sample if 0 < len(words := _words(cell)) <= LONGEST}
    if len(phrases) < _FEWEST or _is_something_else(phrases.values()):
        return None
    nouns = _learn_nouns(list(phrases.values()))
    read = _understood(phrases, nouns)
    template = _template(list(read.values()))
    if sum(sample[cell] for cell in read) < understood * sum(sample.values()):
        return None
    if not _recombine({cell: phrases[cell] for cell in read}, nouns, template, often):
        return None
    counts = Counter(group.noun for groups in read.values() for group in groups if group.noun not in template)
    tags = tuple(dict.fromkeys(tag for groups in read.values() for group in groups for tag in group.tags))
    grammar = Grammar({tag: (i, 1) for i, tag in enumerate(tags)}, {tag: (i, 0) for i, tag in enumerate(tags)})
    return Phrases(tuple(noun for noun, _ in counts.most_common()), grammar, tags, template)


def _words(phrase: str) -> list[str]:
    """Return the words of a phrase, with commas between its parts."""
    words = joined([tuple(part.rstrip(".! ").split()) for part in parts(_BREAKS.sub(",", phrase))])
    return ["," if word == "of" else word for word in words]


def _is_something_else(phrases: Collection[list[str]]) -> bool:
    """Return True for sentences, and for lists, weights, numbers and paths, whose words have other signs."""
    sentences = sum(not _SENTENCE.isdisjoint(words) for words in phrases)
    signs = sum(any(_SIGNS.search(word) for word in words if word not in FILLERS) for words in phrases)
    return sentences * 20 > len(phrases) or signs * 5 > len(phrases)


# ---------------------------------------------------------------- nouns


def _learn_nouns(phrases: list[list[str]]) -> set[str]:
    """Return the words that end phrases or their parts, and those that modifiers of such a word hide."""
    seen: Counter[str] = Counter()
    final: Counter[str] = Counter()
    modified: set[str] = set()
    for words in phrases:
        for run in _runs(words):
            seen.update(run)
            final[run[-1]] += 1
            if any(word not in _ADVERBS for word in run[:-1]):
                modified.add(run[-1])
    # "long" is no noun in "long, blue hair" if another phrase has "long blue hair".
    nouns = {
        word for word, count in final.items() if count >= 0.3 * seen[word] and (word in modified or count == seen[word])
    }
    for _ in range(16):
        if not (hidden := _hidden_nouns(phrases, nouns)):
            break
        nouns |= hidden
    return nouns


def _runs(words: list[str]) -> list[list[str]]:
    """Return the words between fillers."""
    runs: list[list[str]] = [[]]
    for word in words:
        if word in FILLERS or word in DENIALS:
            runs.append([])
        else:
            runs[-1].append(word)
    return [run for run in runs if run]


def _hidden_nouns(phrases: list[list[str]], nouns: set[str]) -> set[str]:
    """Return words that stand among the modifiers of a noun as another noun does.

    Such a word is never the first, follows and precedes several words, and is in most of the noun's groups ("hair" in
    "aqua hair red eyes"), or no other word ever takes its place.
    """
    contexts = _Contexts()
    for words in phrases:
        for run in _runs(words):
            start = 0
            for at, word in enumerate(run):
                if word in nouns:
                    contexts.add(run[start:at], word)
                    start = at + 1
    return contexts.nouns()


class _Contexts:
    """Where each word stands among the modifiers of nouns."""

    def __init__(self) -> None:
        self.groups: Counter[str] = Counter()  # noun → groups with at least two modifiers
        self.held: Counter[tuple[str, str]] = Counter()  # (word, noun) → those that have the word
        self.first: Counter[tuple[str, str]] = Counter()
        self.before: dict[tuple[str, str], set[str]] = {}
        self.after: dict[tuple[str, str], set[str]] = {}
        self.places: dict[tuple[tuple[str, ...], tuple[str, ...], str], set[str]] = {}

    def add(self, modifiers: list[str], noun: str) -> None:
        self.groups[noun] += bool(modifiers)
        for at, word in enumerate(modifiers):
            key = (word, noun)
            self.held[key] += 1
            self.first[key] += not at
            if at > 0:
                self.before.setdefault(key, set()).add(modifiers[at - 1])
                self.after.setdefault(key, set()).add(modifiers[at + 1] if at + 1 < len(modifiers) else noun)
                place = (tuple(modifiers[:at]), tuple(modifiers[at + 1 :]), noun)
                self.places.setdefault(place, set()).add(word)

    def nouns(self) -> set[str]:
        rivals = {(word, place[2]) for place, words in self.places.items() if len(words) > 1 for word in words}
        found = set()
        for key, count in self.held.items():
            word, noun = key
            sides = min(len(self.before.get(key, set())), len(self.after.get(key, set()) - {noun}))
            share = count / self.groups[noun]
            is_noun = share >= 0.6 or (share >= 0.1 and sides > 2 and key not in rivals)
            if sides > 1 and self.first[key] * 20 <= count and is_noun and word not in _ADVERBS:
                found.add(word)
        return found


# ---------------------------------------------------------------- groups


def _groups(words: list[str], nouns: set[str]) -> list[_Group]:
    """Return the groups of a phrase; none if words are left that belong to no noun."""
    groups: list[_Group] = []
    waiting: list[str] = []
    for word in words:
        if word in nouns:
            groups.append(_Group(_bound(waiting), word))
            waiting = []
        elif word not in FILLERS and word not in DENIALS:
            waiting.append(word)
    return [] if waiting else groups


def _bound(modifiers: list[str]) -> tuple[str, ...]:
    """Return modifiers with "very" and the like bound to the next one: "dark blue hair" is not dark and blue hair."""
    bound: list[str] = []
    for modifier in modifiers:
        if bound and bound[-1].split(" ")[-1] in _ADVERBS:
            bound[-1] += f" {modifier}"
        else:
            bound.append(modifier)
    return tuple(dict.fromkeys(bound))


def _template(phrases: list[list[_Group]]) -> frozenset[str]:
    counts = Counter(noun for groups in phrases for noun in {g.noun for g in groups if not g.modifiers})
    return frozenset(noun for noun, count in counts.items() if count >= _TEMPLATE * len(phrases))


def _understood(phrases: Mapping[str, list[str]], nouns: set[str]) -> dict[str, list[_Group]]:
    """Return the groups of the phrases that consist of groups, and have hardly a word that no other phrase has."""
    counts = Counter(word for words in phrases.values() for word in set(words))
    understood: dict[str, list[_Group]] = {}
    for phrase, words in phrases.items():
        groups = _groups(words, nouns)
        rare = sum(counts[word] == 1 for word in set(words))
        is_odd = rare > 1 or any(counts[group.noun] == 1 and not group.modifiers for group in groups)
        if groups and (not is_odd or len(phrases) < _MANY):
            understood[phrase] = groups
    return understood


def _recombine(phrases: Mapping[str, list[str]], nouns: set[str], template: frozenset[str], often: float) -> bool:
    """Return True if most phrases have several groups, not only one tag between commas, and tags recur."""
    several = crowded = pieces = unlisted = 0
    tags: Counter[str] = Counter()
    modifiers: dict[str, set[str]] = {}
    for words in phrases.values():
        named = [_named(piece.split(), nouns, template) for piece in " ".join(words).split(",")]
        pieces += sum(bool(part) for part in named)
        crowded += sum(sum(len(group.tags) for group in part) > 1 for part in named)
        unlisted += any(sum(bool(group.modifiers) for group in part) > 1 for part in named)
        groups = _named(words, nouns, template)
        several += sum(bool(group.modifiers) for group in groups) > 1
        tags.update(tag for group in groups for tag in group.tags)
        for group in groups:
            modifiers.setdefault(group.noun, set()).update(group.modifiers)
    varied = any(len(found) > 1 for found in modifiers.values())
    listed = crowded * 3 < pieces and unlisted * 5 < len(phrases)  # tags between commas, and hardly anything else
    return varied and several * 2 >= len(phrases) and not listed and tags.total() >= often * len(tags)


def _named(words: list[str], nouns: set[str], template: frozenset[str]) -> list[_Group]:
    return [group for group in _groups(words, nouns) if group.modifiers or group.noun not in template]
