"""What the rows of any source say of their pictures: gathered one by one, understood once all are seen.

Whether texts are tags or captions, and whether a label is all there is or one attribute among others, depends
on the whole source. So readers bring rows of plain values, and items are made at the end.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.schema import Attribute
from shards.sources.cells import (
    BETWEEN,
    BLANKS,
    Label,
    NotOne,
    Tags,
    blank_parted,
    clean,
    get,
    label_of,
    meanings,
    parted,
    sentence_of,
    split,
    tag_like,
    tags_of,
)
from shards.sources.columns import Columns, Stated
from shards.sources.item import Item, Picture, Source

TAGS, LABEL, TEXT = ("tags",), ("label", "class", "labels"), ("text", "caption", "prompt")
FOLDER = "folder"


@dataclass(frozen=True)
class Asked:
    """What a person wants of a source besides its pictures; see `shards.sources.read`."""

    columns: tuple[str, ...] = ()
    group: str | None = None
    labels: str = "auto"
    spool: Path | None = None


class _Row(NamedTuple):
    tags: Tags | str | None  # a text until it is clear where its tags part
    label: Label | None
    vector: tuple[float, ...] | None
    group: str | None


_NOTHING = _Row(None, None, None, None)


class Rows:
    """Rows of a source.

    Args:
        where: what holds them, for sentences.
        asked: columns, group and labels that a person wants.
        problems: where to count what is amiss.
        taken: columns with a meaning of their own besides those of tags, label and text.
        classes: whether a column "label" or "class" is a label unasked.
    """

    def __init__(
        self, where: str, asked: Asked, problems: Problems, taken: tuple[str, ...] = (), classes: bool = True
    ) -> None:
        self.asked, self.problems, self.classes = asked, problems, classes
        grouping = (asked.group,) if asked.group and asked.group != FOLDER else ()
        self.columns = Columns(where, asked.columns, (*TAGS, *(LABEL if classes else ()), *TEXT, *taken, *grouping))
        self.rows: list[_Row] = []
        self.texts: list[str | None] = []
        self.kept: dict[Tags, Tags] = {}
        self.parted = False  # whether tags are lists, or texts with commas, anywhere

    def add(self, row: Mapping[str, Any], at: str, names: Mapping[str, list[str]] | None = None) -> int:
        """Take one row; what in it cannot be read is counted, and left out.

        Args:
            row: column → value, as JSON has them.
            at: what to call it in a report.
            names: columns whose numbers stand for words.

        Returns:
            Its number, for `item`.
        """
        self.columns.add(row, self.problems, at)
        tags = self._tags(row.get(TAGS[0]), at)
        label = self._label(row, at, names or {})
        text = self._read(sentence_of, get(row, TEXT), None, at)
        if isinstance(label, list):
            tags = split(tags) if isinstance(tags, str) else tags or ()
            tags, label = (*tags, *label), None
        single, vector = (None, label) if isinstance(label, tuple) else (label, None)
        group = row.get(self.asked.group) if self.asked.group and self.asked.group != FOLDER else None
        said = _Row(tags, single, vector, _group(group))
        self.rows.append(_NOTHING if said == _NOTHING else said)
        self.texts.append(text)
        return len(self.rows) - 1

    def _tags(self, value: Any, at: str) -> Tags | str | None:
        self.parted = self.parted or isinstance(value, list) or (isinstance(value, str) and parted(value))
        if isinstance(value, str) and not self.parted:
            return sys.intern(value.strip())
        return self._read(tags_of, value, self.kept, at)

    def _label(self, row: Mapping[str, Any], at: str, names: Mapping[str, list[str]]) -> Any:
        if not self.classes:
            return None
        column = next((name for name in LABEL if row.get(name) not in (None, "")), None)
        value = row.get(column) if column else None
        if isinstance(value, list) and value and column:
            if all(isinstance(word, str) for word in value):
                return list(self._read(tags_of, value, self.kept, at) or ())
            if column in names:
                words = [self._read(label_of, one, names[column], at) for one in value]
                return [word for word in words if isinstance(word, str)]
        return self._read(label_of, value, names.get(column or ""), at)

    def _read(self, reading: Any, value: Any, extra: Any, at: str) -> Any:
        try:
            return reading(value) if extra is None else reading(value, extra)
        except NotOne as error:
            self.problems.add("label-unreadable", f"{at}: {error}")
            return None

    def source(self, kind: str, pictures: Iterable[tuple[str, Picture, int | None]], one_class: bool = False) -> Source:
        """The source that they make.

        Args:
            kind: the reader's name.
            pictures: id, picture and row of each item; without a row, a picture is unlabelled.
            one_class: whether a label is the one class of a picture whatever else is there, and a name: no number.

        Raises:
            UserError: columns or groups that are not there, vectors of several lengths.
        """
        self._settle_tags()
        if not one_class:
            self._settle_labels()
        stated = self._stated()
        texts = self._texts_part()
        tagged = bool(texts) or any(row.tags is not None for row in self.rows)
        labelled = {str(row.label): None for row in self.rows if row.label is not None}
        given = list(stated.attributes)
        if labelled and tagged and not one_class:
            given.append(self._class(labelled, given))
        items = [self._item(id, picture, row, texts, stated) for id, picture, row in pictures]
        _of_one_length(items)
        alone = bool(labelled) and not tagged and not given
        return Source(kind, items, one_class=alone or one_class, given=tuple(given), problems=self.problems)

    def _settle_tags(self) -> None:
        """Part the texts of tags, now that all of them are there."""
        texts = [row.tags for row in self.rows if isinstance(row.tags, str)]
        at = BETWEEN if self.parted else self._parting(texts)
        for number, row in enumerate(self.rows):
            if isinstance(row.tags, str):
                self.rows[number] = row._replace(tags=split(row.tags, self.kept, at))

    def _parting(self, texts: list[str]) -> str:
        """What parts the tags in texts; blanks are noted."""
        if not blank_parted(texts):
            return BETWEEN
        self.problems.add("tags-split-at-blanks", count=len(texts))
        return BLANKS

    def _settle_labels(self) -> None:
        """Turn single labels into words or vectors, now that all of them are there."""
        meant = meanings({row.label for row in self.rows if row.label is not None})
        for number, row in enumerate(self.rows):
            if row.label is not None and (label := meant[row.label]) is not row.label:
                word, vector = (label, None) if isinstance(label, str) else (None, label)
                self.rows[number] = row._replace(label=word, vector=vector)

    def _stated(self) -> Stated:
        if self.asked.group and self.asked.group != FOLDER:
            self.columns.known(self.asked.group, "--group")
        if self.columns:
            return self.columns.stated(self.problems)
        return Stated((), [], [], [])

    def _texts_part(self) -> str:
        """What parts the tags in texts; "": they are captions, as those of rows that have tags of their own."""
        pairs = zip(self.rows, self.texts, strict=True)
        texts = [text for row, text in pairs if text and row.tags is None]
        if self.asked.labels in ("tags", "caption") or any(row.tags is not None for row in self.rows):
            return self._parting(texts) if self.asked.labels == "tags" and texts else ""
        return self._parting(texts) if tag_like(texts) or blank_parted(texts) else ""

    @staticmethod
    def _class(labels: dict[str, None], given: list[Attribute]) -> Attribute:
        """Labels beside tags: an exclusive attribute of their own."""
        taken = {word for attribute in given for word in attribute.values}
        name = "class" if all(attribute.name != "class" for attribute in given) else "class label"
        return Attribute(name, "exclusive", tuple(sorted(label for label in labels if label not in taken)))

    def _item(self, id: str, picture: Picture, number: int | None, texts: str, stated: Stated) -> Item:
        row = _NOTHING if number is None else self.rows[number]
        words: list[str] | None = None if row.tags is None else list(row.tags)
        caption = None
        if number is not None and (text := self.texts[number]):
            self.texts[number] = None  # with a million of them, memory matters; rows that pictures share have no text
            if texts and row.tags is None:
                words = list(split(text, self.kept, texts))
            else:
                caption = text.replace("\n", " ")
        if row.label is not None:
            words = [*(words or ()), str(row.label)]
        denied: Tags = ()
        vector = row.vector
        if number is not None and stated.tags:
            if more := stated.tags[number]:
                words = [*(words or ()), *more]
            denied = tuple(stated.denied[number])
            vector = stated.vectors[number] if vector is None else vector
        tags = None if words is None else tuple(dict.fromkeys(words))
        group = row.group
        if self.asked.group == FOLDER:
            group = sys.intern(id.rpartition("/")[0] or ".")  # SRC itself is a folder too
        return Item(id, picture, tags and self.kept.setdefault(tags, tags), denied, caption, vector, group)


def _group(value: Any) -> str | None:
    if value is None or value == "" or isinstance(value, list | dict):
        return None
    return sys.intern(clean(str(value)[:1000]))


def _of_one_length(items: list[Item]) -> None:
    """Raises UserError where vectors differ in length: some would mean something else."""
    size, named = 0, ""
    for item in items:
        if item.vector is not None:
            size, named = size or len(item.vector), named or item.id
            if len(item.vector) != size:
                raise UserError(
                    f"{item.id}: its vector has {len(item.vector)} numbers and that of {named} {size}; "
                    "give all pictures vectors of one length"
                )
