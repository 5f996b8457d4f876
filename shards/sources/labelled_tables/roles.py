"""Decide the role of each column of a table by its name and its cells; nothing is left out without a reason."""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import Enum, auto

from shards.sources.cells import InvalidValue
from shards.sources.columns import MAX_VALUES
from shards.sources.gaps import is_none
from shards.sources.labelled_tables import column_names as names
from shards.sources.labelled_tables.facts import TICKS, ColumnFacts
from shards.sources.labelled_tables.numbered_columns import find_lists
from shards.sources.labelled_tables.verdicts import reads_answers
from shards.sources.labelled_tables.yes_no import answers
from shards.sources.layout.folder_names import names_part as part_of
from shards.sources.tag_cells.dialect import TagDialect
from shards.sources.tag_cells.lists import read_numbers
from shards.sources.tag_cells.prompts import names_negative_prompt

_SIGNS = ({0, 1}, {-1, 1}, {-1, 0, 1}, {-1, 0})
_MAX_LABELS = 100_000  # values of a column that is named like a label
_LONGEST = 64  # letters of a class
_TOO_FEW = 20  # cells from which nothing can be said of how often tags occur
_MAX_NUMBERED = 1000  # classes that are numbers, in a column that is named like a label
_MANY_GROUPS, _IMAGES_OF_GROUP = 20, 50  # groups by their cells: so many, of so few images each on average
_DIGIT = re.compile(r"\d")
_PARTITION = {0.0: "train", 1.0: "validation", 2.0: "test"}  # CelebA's


class Kind(Enum):
    """The kinds of role."""

    ID = auto()  # which image the row is of
    TAGS = auto()
    CAPTION = auto()
    CLASS = auto()
    YES_NO = auto()
    NUMBER = auto()
    GROUP = auto()  # images that belong together
    PART = auto()  # of the dataset: train, validation, test
    ROW_NUMBER = auto()
    NOTHING = auto()


@dataclass(frozen=True)
class Role:
    """The role of a column.

    Attributes:
        column: its name.
        kind: what images have in it.
        why: evidence, or the reason why it is no label.
        option: the option that makes it a label, for people; "" if none does.
        is_label: True if the name is one of a label, such as "breed" or "tags".
        is_numbered: True if the column is one of several, such as label1 and label2, that are one list of tags.
    """

    column: str
    kind: Kind
    why: str = ""
    option: str = ""
    is_label: bool = False
    is_numbered: bool = False


def decide_roles(
    facts: Iterable[ColumnFacts], id: str, unnamed: Iterable[str] = (), verdicts: Iterable[str] = ()
) -> dict[str, Role]:
    """Return column → what it is.

    Args:
        facts: of all columns.
        id: the column that names the images.
        unnamed: columns that the table gives no name.
        verdicts: columns that say whether the label of their row applies.
    """
    nameless, facts, verdicts = set(unnamed), list(facts), set(verdicts)
    roles = {}
    for fact in facts:
        roles[fact.name] = Role(id, Kind.ID) if fact.name == id else _role(fact, fact.name in nameless)
        if fact.name in verdicts:
            roles[fact.name] = Role(fact.name, Kind.NOTHING, "it says whether the label of its row applies")
    for members in find_lists(fact for fact in facts if roles[fact.name].kind in (Kind.CLASS, Kind.NOTHING)):
        if any(roles[name].kind == Kind.CLASS for name in members):  # the last columns of a list may be nearly empty
            why = "numbered columns with the same values"
            roles |= {name: Role(name, Kind.TAGS, why, is_numbered=True) for name in members}
    undecided = [name for name, role in roles.items() if role.kind == Kind.NUMBER]
    labels = [name for name, role in roles.items() if role.kind in (Kind.TAGS, Kind.CLASS, Kind.YES_NO, Kind.CAPTION)]
    by_name = {fact.name: fact for fact in facts}
    if not labels and len(undecided) == 1 and undecided[0] in nameless and _are_classes(by_name[undecided[0]]):
        name = undecided[0]  # a list of files with their classes
        roles[name] = Role(name, Kind.CLASS, "the only column beside the images", is_label=True)
    if len(labels) == 1 and roles[labels[0]].kind == Kind.YES_NO and labels[0] in nameless:
        roles[labels[0]] = replace(roles[labels[0]], kind=Kind.CLASS, is_label=True)
    constant = [name for name, role in roles.items() if role.kind == Kind.CLASS and by_name[name].different == 1]
    if len(constant) < len(labels):
        for name in constant:
            roles[name] = Role(name, Kind.NOTHING, f"all rows have {by_name[name].examples(1)[0]!r}", "--class")
    return roles


def _role(fact: ColumnFacts, nameless: bool) -> Role:
    """Return what a column is by itself."""
    name = fact.name
    if not fact.filled:
        return Role(name, Kind.NOTHING, "no values")
    if (nameless or names.names_index(name)) and fact.counts_rows():
        return Role(name, Kind.ROW_NUMBER, "it counts the rows")
    if names.names_index(name) and not nameless and fact.is_unique:
        return Role(name, Kind.ROW_NUMBER, "it is an index")
    if names.names_part(name) and part_values(fact) is not None:
        return Role(name, Kind.PART, "by its name and values")
    if is_part_flag(fact):
        if names.part_of_flag(name) == "validation" and _is_mostly_yes(fact):  # "is_valid" may mean usable
            return Role(name, Kind.NOTHING, "validation, or usable? most rows say yes; name it split or usable", "")
        return Role(name, Kind.PART, "by its name and values")
    if why := _group(fact):
        return Role(name, Kind.GROUP, why, "--class")
    if names_negative_prompt(name):
        return Role(name, Kind.NOTHING, "a negative prompt names what is not in the image")
    if fact.lists and names.is_label(name):
        return Role(name, Kind.CLASS, "by its name", is_label=True)
    if fact.number_lists * 2 > fact.filled:
        return Role(name, Kind.NUMBER, "lists of numbers", "--numbers")
    if names.names_tags(name):
        return Role(name, Kind.TAGS, "by its name", is_label=True)
    if fact.lists and fact.filled > _TOO_FEW and not _recur(fact.entries):
        return Role(name, Kind.NOTHING, "lists of words that hardly recur", "--columns")
    if fact.lists:
        return Role(name, Kind.TAGS, "its cells are lists")
    is_label = names.names_label(name)
    if names.names_caption(name):
        return Role(name, Kind.CAPTION, "by its name")
    if fact.different == 1 and fact.filled == fact.rows and fact.rows > 1 and not is_label:
        return Role(name, Kind.NOTHING, f"all rows have {fact.examples(1)[0]!r}", "--class")
    if not is_label and (sign := _yes_no(fact)):
        return Role(name, Kind.YES_NO, sign)
    if fact.numbers() is not None:
        return _number_role(fact, is_label)
    return _word_role(fact, is_label)


def _group(fact: ColumnFacts) -> str:
    """Return why a column names groups of images, such as the photos of a patient; "" if it does not.

    "age_group" and "patient_sex" have a few words, which are labels; so has "subject" if these are no codes.
    """
    name = fact.name
    if not names.names_group(name) or fact.is_unique or fact.different < 2:
        return ""
    are_codes = fact.counts and all(_DIGIT.search(text) for text in fact.counts)
    if names.names_ids_of_groups(name) or (names.is_group(name) and are_codes):
        return "by its name"
    many = fact.different >= _MANY_GROUPS and fact.filled <= _IMAGES_OF_GROUP * fact.different
    return f"by its name and {fact.different:,} values" if many else ""


def _number_role(fact: ColumnFacts, is_label: bool) -> Role:
    name = fact.name
    if names.is_label(name) and not _are_classes(fact):
        return Role(name, Kind.CLASS, "numbers in a column of labels: whole ones are classes", is_label=True)
    if is_label and _are_classes(fact):
        return Role(name, Kind.CLASS, "whole numbers in a column named like a label", is_label=True)
    what = "numbers that differ in each row" if fact.is_unique else f"{fact.different:,} different numbers"
    what += f" with the unit {fact.unit.name}" if fact.unit else ""
    return Role(name, Kind.NUMBER, what, "--class or --numbers")


def _are_classes(fact: ColumnFacts) -> bool:
    numbers = fact.numbers() or {0.5}
    whole = all(number.is_integer() and number >= -1 for number in numbers)
    return whole and len(numbers) <= _MAX_NUMBERED and (fact.repeats or fact.rows <= 50)


def _word_role(fact: ColumnFacts, is_label: bool) -> Role:
    name = fact.name
    longest = max(map(len, fact.counts))
    if all(read_numbers(text) is not None for text in fact.counts):
        if names.is_label(name):
            return Role(name, Kind.CLASS, "lists of numbers in a column of labels", is_label=True)
        return Role(name, Kind.NUMBER, "lists of numbers", "")
    if kind := fact.looks_like():
        return Role(name, Kind.NOTHING, kind, "--class" if fact.repeats else "")
    dialect = TagDialect.infer(fact.counts.elements(), are_tags=False)
    if dialect.has_several and (is_label or _tags_recur(dialect, fact)):
        why = "phrases of modifiers and nouns" if dialect.phrases else "cells with several values"
        return Role(name, Kind.TAGS, why)
    if not is_label and longest > _LONGEST:
        return Role(name, Kind.NOTHING, "free text", f"--labels caption, if it is renamed to text ({name})")
    if is_label and fact.different <= _MAX_LABELS:
        return Role(name, Kind.CLASS, "by its name", is_label=True)
    few = fact.repeats or (fact.rows <= 20 and fact.different < fact.filled) or fact.rows <= 4
    if few and fact.different <= MAX_VALUES:
        return Role(name, Kind.CLASS, f"{fact.different:,} different values")
    what = "a value for (nearly) every row" if fact.is_unique else f"{fact.different:,} different values"
    return Role(name, Kind.NOTHING, what, "--class")


def _tags_recur(dialect: TagDialect, fact: ColumnFacts) -> bool:
    """Return True if most tags occur again, as those of names ("KEYCAP: *", "flag: Chad") and titles do not."""
    counts: Counter[str] = Counter()
    for text, count in fact.counts.items():
        with contextlib.suppress(InvalidValue):
            counts.update(dict.fromkeys(dialect.tags(text) or (), count))
    return fact.filled <= _TOO_FEW or _recur(counts)


def _recur(counts: Counter[str]) -> bool:
    """Return True if most words occur more than once; also if there are no words, which says nothing."""
    return sum(count for count in counts.values() if count > 1) * 2 >= counts.total()


def _yes_no(fact: ColumnFacts) -> str:
    """Return the evidence that all values mean yes, no or unknown; "" if not."""
    if is_ticked(fact):
        return f"ticks {fact.examples(1)[0]}, or empty"
    if words := answers(fact.counts):
        return " and ".join(sorted(words))
    numbers = fact.numbers() or {0.5}
    if any(numbers <= signs for signs in _SIGNS):
        return " and ".join(f"{number:g}" for number in sorted(numbers))
    return ""


def is_ticked(fact: ColumnFacts) -> bool:
    """Return True if a column has ticks and empty cells alone."""
    words = {text.lower() for text in fact.counts}
    return len(words) == 1 and words <= TICKS and 0 < fact.filled < fact.rows


def is_part_flag(fact: ColumnFacts) -> bool:
    """Return True for "is_train" and the like, if the cells are yes and no: they tell the part, not a label."""
    return names.part_of_flag(fact.name) is not None and reads_answers(list(fact.counts)) is not None


def _is_mostly_yes(fact: ColumnFacts) -> bool:
    says = reads_answers(list(fact.counts))
    return says is not None and sum(count for text, count in fact.counts.items() if says(text)) * 2 > fact.filled


def part_values(fact: ColumnFacts) -> dict[str, str] | None:
    """Return value → part of the dataset; None if the values of a column are no parts."""
    numbers = fact.numbers()
    if numbers is not None:
        fits = names.names_part(fact.name) and numbers <= set(_PARTITION) and 0.0 in numbers and len(numbers) > 1
        return {text: _PARTITION[float(text)] for text in fact.counts} if fits else None
    parts = {text: part_of(text) for text in fact.counts if not is_none(text)}
    known = {text: part for text, part in parts.items() if part}
    return known if known and len(known) == len(parts) and len(parts) <= 12 else None
