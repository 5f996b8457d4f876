"""The grammar of phrases such as "blue long hair and yellow eyes": modifiers, and the nouns that they belong to.

A noun takes all modifiers since the previous noun. "and", "with", articles, commas and word order do not matter. A part
between commas that is exactly a tag is that tag. "no glasses" denies a tag.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Mapping

from shards.vocabulary.spelling import clean_letters, normalise

FILLERS = frozenset({"and", "with", "a", "an", "the", "has", "having", "&", "+", ","})
DENIALS = frozenset({"no", "without", "not"})
LONGEST = 64  # words of a phrase
_READINGS = 64  # kept per prefix of a phrase; more than enough to detect ambiguity

_ESCAPED = re.compile(r"\\([()\[\]{}])")  # as prompts write brackets that are part of a tag

Choice = tuple[int, int]  # an attribute and its value, as numbers; for a tag, 1 is present and 0 is absent
Reading = frozenset[Choice]


def parts(phrase: str) -> list[str]:
    """Return the normalised parts of a phrase between commas and semicolons, with clean letters and without escapes."""
    phrase = _ESCAPED.sub(r"\1", clean_letters(phrase))
    pieces = [normalise(piece) for piece in re.split("[,;、\n]", phrase)]
    return [piece for piece in pieces if piece]


def joined(pieces: list[tuple[str, ...]]) -> list[str]:
    """Return the words of all parts with commas between the parts, so that no tag spans a comma."""
    words: list[str] = []
    for piece in pieces:
        words += [",", *piece] if words else piece
    return words


class Grammar:
    """The tags that phrases may name, indexed by word.

    Args:
        choices: normalised tag → what it means.
        denials: tag → what its denial means, for tags that can be denied.
    """

    def __init__(self, choices: Mapping[str, Choice], denials: Mapping[str, Choice]) -> None:
        self.choices, self.denials = choices, denials
        self.longest = max((len(tag.split()) for tag in choices), default=0)
        self.words = {word for tag in choices for word in tag.split()}
        self.modifiers = functools.cache(self._modifiers)
        self.nouns: dict[str, list[str]] = {}
        for tag in choices:
            if " " in tag:
                self.nouns.setdefault(tag.rpartition(" ")[2], []).append(tag)

    def parts(self, phrase: str) -> list[str]:
        """Return the parts of a phrase; a part between commas that is exactly a tag, such as ";)", is left as it is."""
        pieces = [normalise(piece) for piece in phrase.split(",")]
        return [part for piece in pieces for part in ([piece] if self.is_exact(piece) else parts(piece))]

    def spellings(self, pieces: list[str]) -> tuple[list[str], list[str]]:
        """Return the words of a phrase's parts: once with each part that is exactly a tag as one word, once without."""
        exact = [(piece,) if self.is_exact(piece) else tuple(piece.split()) for piece in pieces]
        return joined(exact), joined([tuple(piece.split()) for piece in pieces])

    def is_exact(self, piece: str) -> bool:
        """Return whether a whole part is a tag or a denied tag."""
        denial, _, rest = piece.partition(" ")
        return piece in self.choices or (denial in DENIALS and rest in self.denials)

    def readings(self, words: list[str]) -> list[Reading]:
        """Return all distinct readings of the words."""

        self.modifiers.cache_clear()

        @functools.cache
        def onwards(at: int) -> tuple[Reading, ...]:
            if at == len(words):
                return (frozenset(),)
            found: dict[Reading, None] = {}
            for end, choices in self.steps(words, at):
                for rest in onwards(end):
                    found.setdefault(choices | rest)
                    if len(found) >= _READINGS:
                        return tuple(found)
            return tuple(found)

        return [reading for reading in onwards(0) if reading]

    def steps(self, words: list[str], at: int) -> Iterator[tuple[int, Reading]]:
        """Yield what can be read from position ``at``: (the next position, its choices)."""
        if words[at] in FILLERS:
            yield at + 1, frozenset()
        for end in range(at + 1, min(at + self.longest + 1, len(words)) + 1):
            tag = " ".join(words[at:end])
            if tag in self.choices:
                yield end, frozenset({self.choices[tag]})
                if " " in words[at]:  # a whole part: here "no shoes" is a tag and denies nothing
                    continue
            denial, _, denied = tag.partition(" ")
            if denial in DENIALS and denied in self.denials:
                yield end, frozenset({self.denials[denied]})
        for end in range(at + 2, len(words)):
            if words[end] in self.nouns:
                for choices in self.modifiers(tuple(words[at:end]), words[end]):
                    yield end + 1, choices

    def _modifiers(self, words: tuple[str, ...], noun: str) -> list[Reading]:
        """Return the ways to split words into modifiers of a noun, such as "very long" and "blue"."""
        if not words:
            return [frozenset()]
        found: list[Reading] = []
        if words[0] in FILLERS:
            found += self.modifiers(words[1:], noun)
        for end in range(1, min(self.longest, len(words) + 1)):
            tag = " ".join((*words[:end], noun))
            if tag in self.choices:
                choice = self.choices[tag]
                found += [rest | {choice} for rest in self.modifiers(words[end:], noun)]
        return found[:_READINGS]
