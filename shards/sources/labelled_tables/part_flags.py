"""Columns such as is_train and is_test, which say of each part of the dataset whether an image is in it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from shards.sources.labelled_tables.column_names import part_of_flag
from shards.sources.labelled_tables.facts import ColumnFacts
from shards.sources.labelled_tables.verdicts import Says, reads_answers


class PartFlags:
    """Reads the part of a row from such columns.

    Args:
        facts: column → its cells.
    """

    def __init__(self, facts: Mapping[str, ColumnFacts]) -> None:
        self._flags: dict[str, tuple[str, Says]] = {}
        for name, fact in facts.items():
            part, says = part_of_flag(name), reads_answers(list(fact.counts))
            if part and says:
                self._flags[name] = (part, says)
        told = {part for part, _ in self._flags.values()}
        # An image that is in none of the parts is in the one without a column: what is not for testing is for training.
        self._rest = next((part for part in ("train", "test") if part not in told), None)

    def part(self, row: Mapping[str, Any]) -> str | None:
        """Return the part that a row is in; None if its cells are empty, or it is in none."""
        said = {part: says(row.get(name)) for name, (part, says) in self._flags.items()}
        inside = next((part for part, answer in said.items() if answer), None)
        return inside or (self._rest if said and None not in said.values() else None)
