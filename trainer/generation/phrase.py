"""Parse phrases such as "blue long hair and yellow eyes" with the vocabulary of a label schema.

A noun takes all modifiers since the previous noun. "and", "with", articles, commas and word order do not matter. A part
between commas that is exactly a tag is that tag. "no glasses" denies a tag; "anything" names nothing. A synonym stands
for its tag. A phrase with two readings is an error that lists both; the parser never guesses.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterator, Mapping

import numpy as np

from shards.core.atomic_io import join_names
from shards.core.errors import UserError
from shards.dataset.schema import Schema, normalise

_FILLERS = frozenset({"and", "with", "a", "an", "the", "has", "having", "&", "+", ","})
_DENIALS = frozenset({"no", "without", "not"})
ANYTHING = "anything"
_LONGEST = 64  # words
_READINGS = 64  # kept per prefix of a phrase; more than enough to detect ambiguity

Choice = tuple[int, int]  # attribute index, value index; for a tag, 1 is present and 0 is absent


def parse(phrase: str, schema: Schema, synonyms: Mapping[str, str] | None = None) -> dict[int, int]:
    """Return the values that a phrase names.

    Args:
        synonyms: additional words -> words of the schema; synonyms of other words are ignored.

    Returns:
        Attribute index -> the index of its value (exclusive attributes), or 1 (present) or 0 (absent) for a tag.
        Attributes that the phrase does not name are left out.

    Raises:
        UserError: an unknown word, a combination that does not exist, two values of one attribute, or several
            readings; the message names similar words, the possible values, or the readings.
    """
    if normalise(phrase) == ANYTHING and ANYTHING not in schema.places:
        return {}
    if not schema.values:
        raise UserError("labels-without-words", f"{phrase!r}: these labels have no words; use {ANYTHING!r}")
    vocabulary = _vocabulary(schema, tuple(sorted((synonyms or {}).items())))
    pieces = [normalise(piece) for piece in re.split("[,;]", phrase)]
    pieces = [piece for piece in pieces if piece]
    if not pieces:
        raise UserError("empty-phrase", f"the phrase is empty; name a value, such as {schema.values[0]!r}")
    exact = [(piece,) if vocabulary.exact(piece) else tuple(piece.split()) for piece in pieces]
    loose = [tuple(piece.split()) for piece in pieces]
    readings: list[frozenset[Choice]] = []
    for split in (exact, loose):
        words = _joined(split)
        if len(words) > _LONGEST:
            raise UserError("phrase-too-long", f"the phrase has {len(words)} words; the limit is {_LONGEST}")
        readings = readings or vocabulary.readings(words)
    if not readings:
        raise vocabulary.error(_joined(loose), phrase)
    consistent = [reading for reading in readings if len({attribute for attribute, _ in reading}) == len(reading)]
    if not consistent:
        raise vocabulary.contradiction(readings[0], phrase)
    if len(consistent) > 1:
        listed = "; or ".join(sorted(vocabulary.spell(reading) for reading in consistent)[:4])
        raise UserError(
            "ambiguous-phrase", f"{phrase!r} has more than one reading: {listed}; put commas between the tags"
        )
    return dict(sorted(consistent[0]))


def vector(named: dict[int, int], schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """Return the label vector of a result of `parse`.

    Returns:
        (label float32 (L,), named bool (A,)); entries of attributes that are not named are zero.
    """
    label, mask = np.zeros(schema.width, np.float32), np.zeros(len(schema.attributes), bool)
    for attribute, value in named.items():
        mask[attribute] = True
        if schema.attributes[attribute].kind == "exclusive":
            label[schema.starts[attribute] + value] = 1
        else:
            label[schema.starts[attribute]] = value
    return label, mask


def _joined(pieces: list[tuple[str, ...]]) -> list[str]:
    """Return the words of all parts with commas between the parts, so that no tag spans a comma."""
    words: list[str] = []
    for piece in pieces:
        words += [",", *piece] if words else piece
    return words


@functools.lru_cache(maxsize=8)
def _vocabulary(schema: Schema, synonyms: tuple[tuple[str, str], ...]) -> _Vocabulary:
    return _Vocabulary(schema, dict(synonyms))


class _Vocabulary:
    """The tags of a schema and their synonyms, indexed by word."""

    def __init__(self, schema: Schema, synonyms: Mapping[str, str]) -> None:
        self.schema = schema
        further = {name: schema.places[tag] for name, tag in synonyms.items() if tag in schema.places}
        self.places = schema.places | {name: place for name, place in further.items() if name not in schema.places}
        self.longest = max(len(tag.split()) for tag in self.places)
        self.words = {word for tag in self.places for word in tag.split()}
        self.modifiers = functools.cache(self._modifiers)
        self.nouns: dict[str, list[str]] = {}
        for tag in self.places:
            if " " in tag:
                self.nouns.setdefault(tag.rpartition(" ")[2], []).append(tag)

    def choice(self, tag: str) -> Choice:
        attribute, value = self.places[tag]
        return attribute, (value if self.schema.attributes[attribute].kind == "exclusive" else 1)

    def denied(self, tag: str) -> Choice | None:
        """Return the choice that denies a tag; None for a value of an exclusive attribute, which has no opposite."""
        place = self.places.get(tag)
        return (place[0], 0) if place and self.schema.attributes[place[0]].kind == "tag" else None

    def exact(self, piece: str) -> bool:
        """Return whether a whole part is a tag or a denied tag."""
        denial, _, rest = piece.partition(" ")
        return piece in self.places or (denial in _DENIALS and self.denied(rest) is not None)

    def readings(self, words: list[str]) -> list[frozenset[Choice]]:
        """Return all distinct readings of the words."""

        self.modifiers.cache_clear()

        @functools.cache
        def onwards(at: int) -> tuple[frozenset[Choice], ...]:
            if at == len(words):
                return (frozenset(),)
            found: dict[frozenset[Choice], None] = {}
            for end, choices in self.steps(words, at):
                for rest in onwards(end):
                    found.setdefault(choices | rest)
                    if len(found) >= _READINGS:
                        return tuple(found)
            return tuple(found)

        return [reading for reading in onwards(0) if reading]

    def steps(self, words: list[str], at: int) -> Iterator[tuple[int, frozenset[Choice]]]:
        """Yield what can be read from position ``at``: (the next position, its choices)."""
        if words[at] in _FILLERS:
            yield at + 1, frozenset()
        for end in range(at + 1, min(at + self.longest + 1, len(words)) + 1):
            tag = " ".join(words[at:end])
            if tag in self.places:
                yield end, frozenset({self.choice(tag)})
                if " " in words[at]:  # a whole part: here "no shoes" is a tag and denies nothing
                    continue
            denial, _, denied_tag = tag.partition(" ")
            denied = self.denied(denied_tag) if denial in _DENIALS else None
            if denied:
                yield end, frozenset({denied})
        for end in range(at + 2, len(words)):
            if words[end] in self.nouns:
                for choices in self.modifiers(tuple(words[at:end]), words[end]):
                    yield end + 1, choices

    def _modifiers(self, words: tuple[str, ...], noun: str) -> list[frozenset[Choice]]:
        """Return the ways to split words into modifiers of a noun, such as "very long" and "blue"."""
        if not words:
            return [frozenset()]
        found: list[frozenset[Choice]] = []
        if words[0] in _FILLERS:
            found += self.modifiers(words[1:], noun)
        for end in range(1, min(self.longest, len(words) + 1)):
            tag = " ".join((*words[:end], noun))
            if tag in self.places:
                choice = self.choice(tag)
                found += [rest | {choice} for rest in self.modifiers(words[end:], noun)]
        return found[:_READINGS]

    # ------------------------------------------------------------ errors

    def spell(self, reading: frozenset[Choice]) -> str:
        """Return a reading as words."""
        words = []
        for attribute, value in sorted(reading):
            values = self.schema.attributes[attribute].values
            exclusive = self.schema.attributes[attribute].kind == "exclusive"
            denial = "not" if f"no {values[0]}" in self.places else "no"
            words.append(values[value] if exclusive else values[0] if value else f"{denial} {values[0]}")
        return ", ".join(words)

    def contradiction(self, reading: frozenset[Choice], phrase: str) -> UserError:
        """Return the error for two values of one attribute."""
        both: dict[int, list[Choice]] = {}
        for choice in sorted(reading):
            both.setdefault(choice[0], []).append(choice)
        attribute, choices = next(item for item in both.items() if len(item[1]) > 1)
        words = " and ".join(self.spell(frozenset({choice})) for choice in choices)
        name = self.schema.attributes[attribute].name
        return UserError("contradictory-phrase", f"{phrase!r} names {words}; an image has only one {name!r}")

    def error(self, words: list[str], phrase: str) -> UserError:
        """Return the error that explains why a phrase has no reading."""
        known = self.words | _FILLERS | _DENIALS
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, sorted(self.words), 3, 0.6)
                near += [tag for tag in difflib.get_close_matches(word, list(self.places), 3, 0.6) if tag not in near]
                hint = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"known are {self.examples()}"
                return UserError("unknown-word", f"{phrase!r}: unknown word {word!r}; {hint}")
        at = self.furthest(words)
        while at < len(words) and words[at] in _FILLERS:
            at += 1
        rest = words[at:]
        if not rest:
            return UserError("empty-phrase", f"{phrase!r} names nothing; known are {self.examples()}")
        if rest[0] in _DENIALS:
            return UserError("not-deniable", f"{phrase!r}: only independent tags can be denied; {self.deniable()}")
        noun = next((i for i, word in enumerate(rest) if word in self.nouns), None)
        if noun is None:
            fitting = [tag for tag in self.places if rest[0] in tag.split()]
            tags = join_names([repr(tag) for tag in fitting])
            return UserError("incomplete-phrase", f"{phrase!r}: {rest[0]!r} is incomplete; did you mean {tags}?")
        choices = join_names([tag.removesuffix(f" {rest[noun]}") for tag in sorted(self.nouns[rest[noun]])], 20)
        wrong = [w for w in rest[:noun] if w not in _FILLERS and not self.modifies(w, rest[noun])]
        if not wrong and noun == 0:
            return UserError("incomplete-phrase", f"{phrase!r}: {rest[noun]!r} needs a modifier: {choices}")
        missing = " ".join((wrong[0] if wrong else " ".join(rest[:noun]), rest[noun]))
        return UserError("unknown-value", f"{phrase!r}: there is no {missing!r}; {rest[noun]} can be {choices}")

    def furthest(self, words: list[str]) -> int:
        """Return the longest prefix that can be read, in words."""
        reached, waiting = {0}, [0]
        while waiting:
            at = waiting.pop()
            ends = {end for end, _ in self.steps(words, at)} - reached if at < len(words) else set()
            reached |= ends
            waiting += ends
        return max(reached)

    def modifies(self, word: str, noun: str) -> bool:
        return any(word in tag.split()[:-1] for tag in self.nouns[noun])

    def deniable(self) -> str:
        tags = [a.name for a in self.schema.attributes if a.kind == "tag"]
        return f"known are {join_names(tags, 10)}" if tags else "there are none"

    def examples(self) -> str:
        return join_names([repr(tag) for tag in self.schema.values], 10)
