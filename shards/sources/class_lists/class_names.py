"""Names of the numbered classes of a source, from the lists of names in it; where two readings fit, none is taken."""

from __future__ import annotations

from collections.abc import Collection, Set
from dataclasses import dataclass, field

from shards.core.problems import Problems
from shards.sources.cells import shorten_names
from shards.sources.class_lists.name_lists import NameList, find_lists
from shards.sources.file_tree import FileTree
from shards.sources.labelled_tables.facts import ColumnFacts
from shards.vocabulary.spelling import normalise


@dataclass
class ListedNames:
    """The names of the classes of a column.

    Attributes:
        names: number → name, of at least all classes that occur; empty if they have none, or it is unknown.
        notes: (code, detail, count) of what `Problems` is told.
    """

    names: dict[int, str] = field(default_factory=dict)
    notes: list[tuple[str, str, int]] = field(default_factory=list)

    def report(self, problems: Problems) -> None:
        """Say which list is used, or why none is."""
        for code, detail, count in self.notes:
            problems.add(code, detail=detail, count=count)


def listed_names(tree: FileTree, fact: ColumnFacts, without: Collection[str] = ()) -> dict[int, str]:
    """Return number → name of the classes of a column; empty if no list names them, which is reported."""
    numbers = fact.numbers()
    if numbers is None or not all(number.is_integer() and number >= -1 for number in numbers):
        return {}
    found = find_names(tree, fact.name, {int(number) for number in numbers} - {-1}, without)
    found.report(tree.problems)
    return found.names


def find_names(tree: FileTree, column: str, used: Set[int], without: Collection[str] = ()) -> ListedNames:
    """Return the names of classes by their numbers.

    Args:
        tree: the source's files.
        column: the column of the numbers.
        used: the numbers that occur.
        without: tables that are read for other things.
    """
    lists = find_lists(tree, column, without) if used else []
    return choose_names([one for one in lists if _is_meant(one, column, used)], used)


def choose_names(lists: Collection[NameList], used: Set[int]) -> ListedNames:
    """Return the names by number that all lists which fit the numbers agree on."""
    fits = [(one, number_names(one, used)) for one in lists]
    certain = [(one.file, readings[0]) for one, readings in fits if len(readings) == 1]
    unclear = [(one.file, readings) for one, readings in fits if len(readings) > 1]
    if certain:
        file, names = certain[0]
        other = next((other for other, others in certain if not _agree(names, others, used)), None)
        if other is None:
            return ListedNames(names, [("class-named-by-list", file, len(names))])
        return ListedNames({}, [("class-lists-differ", f"{file} and {other}", len(used))])
    if unclear:
        file, (zero, one) = unclear[0]
        number = min(used)
        detail = f"{file}: {number} is {_quoted(zero[number])} if it counts from 0, {_quoted(one[number])} if from 1"
        return ListedNames({}, [("class-list-unclear", detail, len(used))])
    unused = [one.file for one in lists if one.is_named]
    return ListedNames({}, [("class-list-not-used", file, 1) for file in dict.fromkeys(unused)])


def number_names(one: NameList, used: Set[int]) -> list[dict[int, str]]:
    """Return the ways to number the names of a list such that all numbers that occur have one.

    Numbers in the list decide. Without any, the first name is that of 0 if 0 occurs, and that of 1 if the last name
    is needed; else it may be either.
    """
    if one.numbers:
        names = dict(zip(one.numbers, one.names, strict=True))
        return [names] if len(names) == len(one.names) and used <= names.keys() else []
    count = len(one.names)
    if max(used) > count or count > 2 * (max(used) + 1):
        return []
    starts = [0] if 0 in used else [1] if max(used) == count else [0, 1]
    numbered = [dict(enumerate(one.names, start)) for start in starts]
    return [names for names in numbered if used <= names.keys()]


def _is_meant(one: NameList, column: str, used: Set[int]) -> bool:
    """Return False for a table of something else that happens to have numbers: it has many more rows than classes."""
    return one.is_named or one.column.lower() == column.lower() or len(one.names) <= 2 * (max(used) + 1)


def _agree(names: dict[int, str], others: dict[int, str], used: Set[int]) -> bool:
    return all(normalise(names[number]) == normalise(others[number]) for number in used)


def _quoted(name: str) -> str:
    return repr(shorten_names([name]))
