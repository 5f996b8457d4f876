"""Parse phrases such as "blue long hair and yellow eyes" with the vocabulary of a label schema.

The grammar is that of `shards.vocabulary.grammar`. Here, "anything" names nothing, and a synonym stands for its tag. A
part between commas may leave out the name of the attribute ("women" for "women gender") if no other tag begins like it.
A phrase with two readings is an error that lists both; the parser never guesses.
"""

from __future__ import annotations

import difflib
import functools
import itertools
from collections.abc import Iterator, Mapping

import numpy as np

from shards.core.atomic_io import join_names
from shards.core.errors import UserError
from shards.dataset.schema import Schema
from shards.vocabulary.grammar import DENIALS, FILLERS, LONGEST, Choice, Grammar, Reading
from shards.vocabulary.spelling import normalise

ANYTHING = "anything"


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
    pieces = vocabulary.parts(phrase)
    if not pieces:
        raise UserError("empty-phrase", f"the phrase is empty; name a value, such as {schema.values[0]!r}")
    exact, loose = vocabulary.spellings(pieces)
    readings: list[Reading] = []
    for words in (exact, loose):
        if len(words) > LONGEST:
            raise UserError("phrase-too-long", f"the phrase has {len(words)} words; the limit is {LONGEST}")
        readings = readings or vocabulary.readings(words)
    if not readings:
        raise vocabulary.error(loose, phrase)
    consistent = [reading for reading in readings if len({attribute for attribute, _ in reading}) == len(reading)]
    if not consistent:
        raise vocabulary.contradiction(readings[0], phrase)
    if len(consistent) > 1:
        listed = "; or ".join(sorted(vocabulary.spell(reading) for reading in consistent)[:4])
        raise UserError(
            "ambiguous-phrase", f"{phrase!r} has more than one reading: {listed}; put commas between the tags"
        )
    return dict(sorted(consistent[0]))


def split_phrases(option: str, words: str | None) -> list[str]:
    """Return the phrases of an option that takes several, separated by ";"; none if it was not given.

    Raises:
        UserError: one of them is empty.
    """
    phrases = [] if words is None else [phrase.strip() for phrase in words.split(";")]
    if not all(phrases):
        raise UserError("empty-phrase", f'{option} {words!r}: a phrase is empty; write "PHRASE; PHRASE"')
    return phrases


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


@functools.lru_cache(maxsize=8)
def _vocabulary(schema: Schema, synonyms: tuple[tuple[str, str], ...]) -> _Vocabulary:
    return _Vocabulary(schema, dict(synonyms))


def _short_forms(schema: Schema, choices: Mapping[str, Choice]) -> dict[str, str]:
    """Return short form → value, for values that end with the name of their attribute, as those of columns do.

    "black hair colour" of the attribute "hair colour" is also "black hair" and "black". Forms that are a tag, or begin
    another one, are left out.
    """
    found: dict[str, str] = {}
    for attribute in schema.attributes:
        for value in attribute.values:
            cell = value.removesuffix(f" {attribute.name}")
            if cell != value:
                found |= {short: value for short in _beginnings(value) if len(short) >= len(cell)}
    meant: dict[str, set[Choice]] = {short: set() for short in found}
    for tag, choice in choices.items() if found else ():
        for short in meant.keys() & _beginnings(tag):
            meant[short].add(choice)
    return {short: value for short, value in found.items() if len(meant[short]) == 1 and short not in choices}


def _beginnings(tag: str) -> Iterator[str]:
    """Yield the first words of a tag, without its last ones."""
    return itertools.accumulate(tag.split()[:-1], lambda before, word: f"{before} {word}")


class _Vocabulary(Grammar):
    """The grammar of a schema's tags and their synonyms, with errors for people."""

    def __init__(self, schema: Schema, synonyms: Mapping[str, str]) -> None:
        self.schema = schema
        further = {name: schema.places[tag] for name, tag in synonyms.items() if tag in schema.places}
        places = schema.places | {name: place for name, place in further.items() if name not in schema.places}
        exclusive = [attribute.kind == "exclusive" for attribute in schema.attributes]
        super().__init__(
            {tag: (attribute, value if exclusive[attribute] else 1) for tag, (attribute, value) in places.items()},
            {tag: (attribute, 0) for tag, (attribute, _) in places.items() if not exclusive[attribute]},
        )

        self.short = _short_forms(schema, self.choices)

    def parts(self, phrase: str) -> list[str]:
        """Return the parts of a phrase, with values in full that stand alone without the name of their attribute."""
        return [self.short.get(piece, piece) for piece in super().parts(phrase)]

    def spell(self, reading: Reading) -> str:
        """Return a reading as words."""
        words = []
        for attribute, value in sorted(reading):
            values = self.schema.attributes[attribute].values
            exclusive = self.schema.attributes[attribute].kind == "exclusive"
            denial = "not" if f"no {values[0]}" in self.choices else "no"
            words.append(values[value] if exclusive else values[0] if value else f"{denial} {values[0]}")
        return ", ".join(words)

    def contradiction(self, reading: Reading, phrase: str) -> UserError:
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
        known = self.words | FILLERS | DENIALS
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, sorted(self.words), 3, 0.6)
                near += [tag for tag in difflib.get_close_matches(word, list(self.choices), 3, 0.6) if tag not in near]
                hint = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"known are {self.examples()}"
                return UserError("unknown-word", f"{phrase!r}: unknown word {word!r}; {hint}")
        at = self.furthest(words)
        while at < len(words) and words[at] in FILLERS:
            at += 1
        rest = words[at:]
        if not rest:
            return UserError("empty-phrase", f"{phrase!r} names nothing; known are {self.examples()}")
        if rest[0] in DENIALS:
            return UserError("not-deniable", f"{phrase!r}: only independent tags can be denied; {self.deniable()}")
        noun = next((i for i, word in enumerate(rest) if word in self.nouns), None)
        if noun is None:
            fitting = [tag for tag in self.choices if rest[0] in tag.split()]
            tags = join_names([repr(tag) for tag in fitting])
            return UserError("incomplete-phrase", f"{phrase!r}: {rest[0]!r} is incomplete; did you mean {tags}?")
        choices = join_names([tag.removesuffix(f" {rest[noun]}") for tag in sorted(self.nouns[rest[noun]])], 20)
        wrong = [w for w in rest[:noun] if w not in FILLERS and not self.modifies(w, rest[noun])]
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
