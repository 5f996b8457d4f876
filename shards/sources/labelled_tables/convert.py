"""Bring the rows of a table into the form that `RowCollector` reads."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from shards.core.problems import Problems
from shards.sources.cells import InvalidValue, shorten_names
from shards.sources.gaps import doubtful_gap, is_empty, is_none, says_nothing
from shards.sources.labelled_tables.facts import ColumnFacts, number_of, spelled, without_units
from shards.sources.labelled_tables.one_hot import find_one_hot, is_yes
from shards.sources.labelled_tables.part_flags import PartFlags
from shards.sources.labelled_tables.roles import Role, is_ticked, part_values
from shards.sources.labelled_tables.selection import Selection
from shards.sources.labelled_tables.yes_no import answer, answers
from shards.sources.rows import RowKeys
from shards.sources.tag_cells.dialect import TagDialect


class RowConverter:
    """Converts rows, and counts what it interprets.

    Args:
        chosen: the columns that are used. Columns that `join_one_hot` joins are removed from it.
        roles: column → what it is.
        facts: column → its cells.
        problems: counts what is interpreted.
        class_names: column → names of the classes that its numbers stand for.
        keys: the keys of the converted rows.
        min_weight: of weighted tags.

    Attributes:
        one_hot: attribute → the columns of which each row has exactly one.
    """

    def __init__(
        self,
        chosen: Selection,
        roles: Mapping[str, Role],
        facts: Mapping[str, ColumnFacts],
        problems: Problems,
        class_names: Mapping[str, Mapping[int, str]],
        keys: RowKeys,
        min_weight: float,
    ) -> None:
        self.chosen, self.problems, self.class_names, self.keys = chosen, problems, class_names, keys
        self.one_hot: dict[str, list[str]] = {}
        several = chosen.tags if len(chosen.tags) > 1 else ()  # cells of one column are split by `RowCollector`
        self.dialects = [
            (name, TagDialect.infer(facts[name].counts.elements(), min_weight=min_weight)) for name in several
        ]
        self.parts = part_values(facts[chosen.part]) or {} if chosen.part else {}
        self.flags = PartFlags({name: facts[name] for name in chosen.flags})
        # Where most columns have 0 as well, as CheXpert's have, -1 is uncertain; else it means no, as in CelebA.
        numbers = {name: facts[name].numbers() or set() for name in chosen.yes_no}
        self.signed = {name for name, found in numbers.items() if -1.0 in found}
        with_zero = sum(0.0 in numbers[name] for name in self.signed)
        self.has_uncertain = 0 < len(self.signed) <= 2 * with_zero
        self.answers = {name: answers(facts[name].counts) for name in chosen.yes_no}
        self.ticked = {name for name in chosen.yes_no if is_ticked(facts[name])}
        self.has_no_class = {name for name in self._classes() if _has_negative(facts[name])}
        self.gaps = {name: fact.gaps for name, fact in facts.items() if fact.gaps}
        self.with_none = {name for name, fact in facts.items() if fact.nones}
        used = (*chosen.attributes, *self._classes())
        self.units = {name: unit for name in used if (unit := facts[name].unit)}
        self.counts: Counter[tuple[str, str]] = Counter()

    def join_one_hot(self, columns: Sequence[str], rows: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Find columns of which each row has exactly one, and make them one attribute."""
        if len(columns) < 2 or self.has_uncertain:
            return
        for name, members in find_one_hot(columns, self._marked(columns, rows()), "class").items():
            if all(member in self.chosen.yes_no for member in members):
                self.one_hot[name] = members
                self.chosen.yes_no = [column for column in self.chosen.yes_no if column not in members]
                self.problems.add("columns-one-hot", detail=name, count=len(members))
        members = {column: name for name, own in self.one_hot.items() for column in own}
        self.chosen.uses = [
            use._replace(becomes=f"value of the exclusive attribute {members[use.name]}", why="one is 1 in every row")
            if use.name in members
            else use
            for use in self.chosen.uses
        ]

    def convert(self, row: Mapping[str, Any], at: str, denied: Sequence[str] = ()) -> dict[str, Any]:
        """Return the row that `RowCollector.add` reads; ``denied`` are labels that do not apply to its image."""
        row = self._without_gaps(row) if self.gaps else row
        chosen, converted = self.chosen, dict[str, Any]()
        row = without_units(row, self.units) if self.units else row
        if len(chosen.tags) == 1:
            tags = chosen.tags[0]
            converted[self.keys.tags[0]] = self._named(tags, row.get(tags), at)
        elif chosen.tags:
            converted[self.keys.tags[0]] = self._tags(row, at)
        if chosen.label:
            converted[self.keys.label[0]] = self._class(chosen.label, row.get(chosen.label), at)
        if chosen.text:
            text = row.get(chosen.text)
            converted[self.keys.text[0]] = None if says_nothing(text) else text
        for name in chosen.classes:
            converted[name] = self._class(name, row.get(name), at)
        for name in chosen.yes_no:
            converted[name] = self._yes_no(name, self._named(name, row.get(name), at))
        for name in chosen.numbers:
            converted[name] = row.get(name)
        for name in chosen.others:
            converted[name] = self._named(name, row.get(name), at)
        for name, members in self.one_hot.items():
            converted[name] = next((member for member in members if self._is_yes(member, row.get(member))), None)
        if denied:
            converted[self.keys.denied] = self._named(chosen.label, list(denied), at) if chosen.label else list(denied)
        if chosen.group:
            converted[chosen.group] = row.get(chosen.group)
        return converted

    def part(self, row: Mapping[str, Any]) -> str | None:
        """Return the part of the dataset that a row is in."""
        part = self.parts.get(spelled(row.get(self.chosen.part))) if self.chosen.part else None
        return part or self.flags.part(row)

    def report(self) -> None:
        """Say what was interpreted."""
        for name, unit in self.units.items():
            self.problems.add("number-with-unit", f"{shorten_names([name])}: {unit.described}", detail=unit.name)
        for (code, name), count in self.counts.items():
            self.problems.add(code, detail=repr(shorten_names([name])), count=count)

    def _classes(self) -> list[str]:
        return [*self.chosen.classes, *([self.chosen.label] if self.chosen.label else [])]

    def _class(self, name: str, value: Any, at: str) -> Any:
        """Return the class of a cell as a text; None if it has none."""
        if is_empty(value) or (is_none(value) and name not in self.with_none):
            if not is_none(value) and (code := doubtful_gap(value)):
                self.counts[code, name] += 1
            return None
        if name == self.chosen.label and (code := doubtful_gap(value)):  # those of classes are counted with the others
            self.counts[code, name] += 1
        if name == self.chosen.label and value == []:
            return None
        if isinstance(value, list) and name in self.class_names:
            return [word for one in value if isinstance(word := self._class(name, one, at), str)]
        if isinstance(value, list | dict):
            return value
        text = spelled(value)
        if name in self.has_no_class and text.removesuffix(".0") == "-1":
            self.counts["class-negative", name] += 1
            return None
        if names := self.class_names.get(name):
            number = number_of(text)
            if number == -1:  # how Hugging Face writes that the class is not known
                self.counts["class-negative", name] += 1
                return None
            if number is None or not number.is_integer() or int(number) not in names:
                self.problems.add("label-unreadable", f"{at}: class {text[:40]} of {len(names)}")
                return None
            return names[int(number)]
        return value if name == self.chosen.label else text

    def _named(self, name: str, value: Any, at: str) -> Any:
        """Return a cell with the names of classes in place of their numbers, if the table has them."""
        return self._class(name, value, at) if name in self.class_names else value

    def _yes_no(self, name: str, value: Any) -> bool | None:
        if name in self.ticked:
            return not is_empty(value)
        if says_nothing(value) or isinstance(value, list | dict):
            return None
        text = spelled(value)
        number = number_of(text)
        if number is None and answer(text, self.answers[name]) is None:
            self.counts["cell-not-known", name] += 1
        if number == -1:
            if self.has_uncertain:
                self.counts["cell-uncertain", name] += 1
                return None
            return False
        if number == 0 and name in self.signed and not self.has_uncertain:
            self.counts["cell-zero", name] += 1
            return None
        return True if number == 1 else False if number == 0 else answer(text, self.answers[name])

    def _without_gaps(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return a row without the words that are gaps in their columns, and count those of labels."""
        labels, kept = set(self.chosen.labels), dict(row)
        for name, gaps in self.gaps.items():
            value = row.get(name)
            if isinstance(value, str) and value.strip().lower() in gaps:
                kept[name] = None
                if name in labels:
                    self.counts["cell-not-known", name] += 1
        return kept

    def _is_yes(self, name: str, value: Any) -> bool:
        return is_yes(value) or answer(spelled(value), self.answers[name]) is True

    def _marked(self, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, bool]]:
        for row in rows:
            yield {name: self._is_yes(name, row.get(name)) for name in columns}

    def _tags(self, row: Mapping[str, Any], at: str) -> list[str] | None:
        found: list[str] | None = None
        for name, dialect in self.dialects:
            value = self._named(name, row.get(name), at)
            if says_nothing(value):
                continue
            try:
                tags = dialect.tags(value)
            except InvalidValue as error:
                self.problems.add("label-unreadable", f"{at}: {error}")
                continue
            found = [*(found or ()), *(tags or ())]
        return found


def _has_negative(fact: ColumnFacts) -> bool:
    numbers = fact.numbers()
    return numbers is not None and min(numbers) == -1 and len(numbers) > 2
