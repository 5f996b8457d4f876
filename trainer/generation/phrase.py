"""From words to labels: "blue long hair and yellow eyes" against the vocabulary of a schema.

A noun takes all modifiers since the previous noun; "and", "with", articles, commas and order do not matter;
a piece between commas that is exactly a tag is that tag; "no glasses" denies a tag; "anything" asks for
nothing. A synonym is read as its tag. A phrase that can be read in two ways is an error that lists both: nothing
is guessed.
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
_LONGEST = 64  # words of a phrase
_READINGS = 64  # kept for each beginning of a phrase; more than enough to see that it is ambiguous

Choice = tuple[int, int]  # attribute index, value index; for a tag 1 is "there" and 0 is "not there"


def parse(phrase: str, schema: Schema, synonyms: Mapping[str, str] | None = None) -> dict[int, int]:
    """What a phrase asks for.

    Args:
        synonyms: further words -> words of the schema (others are ignored).

    Returns:
        Attribute index → the index of its value (exclusive), or 1 (there) or 0 (not there) for a tag.
        Attributes that the phrase does not name are absent.

    Raises:
        UserError: an unknown word, a combination that does not exist, two values for one attribute, or
            an ambiguity; the sentence names the near words, what there is, or the readings.
    """
    if normalise(phrase) == ANYTHING and ANYTHING not in schema.places:
        return {}
    if not schema.values:
        raise UserError(f"{phrase!r}: these labels have no words; {ANYTHING!r} asks for labels as the data has them")
    vocabulary = _vocabulary(schema, tuple(sorted((synonyms or {}).items())))
    pieces = [normalise(piece) for piece in re.split("[,;]", phrase)]
    pieces = [piece for piece in pieces if piece]
    if not pieces:
        raise UserError("the phrase is empty; name something, such as " + repr(schema.values[0]))
    exact = [(piece,) if vocabulary.exact(piece) else tuple(piece.split()) for piece in pieces]
    loose = [tuple(piece.split()) for piece in pieces]
    readings: list[frozenset[Choice]] = []
    for split in (exact, loose):
        words = _joined(split)
        if len(words) > _LONGEST:
            raise UserError(f"the phrase has {len(words)} words, more than the {_LONGEST} that make sense")
        readings = readings or vocabulary.readings(words)
    if not readings:
        raise UserError(vocabulary.trouble(_joined(loose), phrase))
    sound = [reading for reading in readings if len({attribute for attribute, _ in reading}) == len(reading)]
    if not sound:
        raise UserError(vocabulary.clash(readings[0], phrase))
    if len(sound) > 1:
        listed = "; or ".join(sorted(vocabulary.spell(reading) for reading in sound)[:4])
        raise UserError(f"{phrase!r} can be read in more than one way: {listed}; put commas between the tags")
    return dict(sorted(sound[0]))


def vector(named: dict[int, int], schema: Schema) -> tuple[np.ndarray, np.ndarray]:
    """The label of what `parse` found.

    Returns:
        (label float32 (L,), named bool (A,)): entries of attributes that were not named are zero.
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
    """The pieces' words with a comma between, so that no tag is read across one."""
    words: list[str] = []
    for piece in pieces:
        words += [",", *piece] if words else piece
    return words


@functools.lru_cache(maxsize=8)
def _vocabulary(schema: Schema, synonyms: tuple[tuple[str, str], ...]) -> _Vocabulary:
    return _Vocabulary(schema, dict(synonyms))


class _Vocabulary:
    """The tags of a schema and their synonyms, ready for looking words up."""

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
        """The choice against a tag; None where it is a value that something else would have to replace."""
        place = self.places.get(tag)
        return (place[0], 0) if place and self.schema.attributes[place[0]].kind == "tag" else None

    def exact(self, piece: str) -> bool:
        """Whether a whole piece is a tag, or a tag denied."""
        denial, _, rest = piece.partition(" ")
        return piece in self.places or (denial in _DENIALS and self.denied(rest) is not None)

    def readings(self, words: list[str]) -> list[frozenset[Choice]]:
        """Every way to read all the words, without repetition."""

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
        """What can be read from one place: (the place after it, what it says)."""
        if words[at] in _FILLERS:
            yield at + 1, frozenset()
        for end in range(at + 1, min(at + self.longest + 1, len(words)) + 1):
            tag = " ".join(words[at:end])
            if tag in self.places:
                yield end, frozenset({self.choice(tag)})
                if " " in words[at]:  # a whole piece: "no shoes" is a tag here, and denies none
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
        """The ways to split words into modifiers of a noun: "very long", "blue"."""
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

    # ------------------------------------------------------------ saying what is wrong

    def spell(self, reading: frozenset[Choice]) -> str:
        """A reading in words, for a list of readings."""
        words = []
        for attribute, value in sorted(reading):
            values = self.schema.attributes[attribute].values
            exclusive = self.schema.attributes[attribute].kind == "exclusive"
            denial = "not" if f"no {values[0]}" in self.places else "no"
            words.append(values[value] if exclusive else values[0] if value else f"{denial} {values[0]}")
        return ", ".join(words)

    def clash(self, reading: frozenset[Choice], phrase: str) -> str:
        """The sentence for two values of one attribute."""
        both: dict[int, list[Choice]] = {}
        for choice in sorted(reading):
            both.setdefault(choice[0], []).append(choice)
        attribute, choices = next(item for item in both.items() if len(item[1]) > 1)
        words = " and ".join(self.spell(frozenset({choice})) for choice in choices)
        return f"{phrase!r} asks for {words}, and a picture has only one {self.schema.attributes[attribute].name!r}"

    def trouble(self, words: list[str], phrase: str) -> str:
        """Why a phrase cannot be read."""
        known = self.words | _FILLERS | _DENIALS
        for word in words:
            if word not in known:
                near = difflib.get_close_matches(word, sorted(self.words), 3, 0.6)
                near += [tag for tag in difflib.get_close_matches(word, list(self.places), 3, 0.6) if tag not in near]
                hint = f"did you mean {' or '.join(map(repr, near[:3]))}?" if near else f"there are {self.examples()}"
                return f"{phrase!r}: unknown word {word!r}; {hint}"
        at = self.furthest(words)
        while at < len(words) and words[at] in _FILLERS:
            at += 1
        rest = words[at:]
        if not rest:
            return f"{phrase!r} names nothing; there are {self.examples()}"
        if rest[0] in _DENIALS:
            return f"{phrase!r}: only a tag that is there or not can be denied; {self.deniable()}"
        noun = next((i for i, word in enumerate(rest) if word in self.nouns), None)
        if noun is None:
            fitting = [repr(tag) for tag in self.places if rest[0] in tag.split()]
            return f"{phrase!r}: {rest[0]!r} says nothing by itself; is it {join_names(fitting)}?"
        choices = join_names([tag.removesuffix(f" {rest[noun]}") for tag in sorted(self.nouns[rest[noun]])], 20)
        wrong = [w for w in rest[:noun] if w not in _FILLERS and not self.modifies(w, rest[noun])]
        if not wrong and noun == 0:
            return f"{phrase!r}: {rest[noun]!r} needs a word before it: {choices}"
        missing = " ".join((wrong[0] if wrong else " ".join(rest[:noun]), rest[noun]))
        return f"{phrase!r}: there is no {missing!r}; {rest[noun]} can be {choices}"

    def furthest(self, words: list[str]) -> int:
        """How many words from the start can be read."""
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
        return f"there are {join_names(tags, 10)}" if tags else "there are none here"

    def examples(self) -> str:
        return join_names([repr(tag) for tag in self.schema.values], 10)
