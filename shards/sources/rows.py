"""The rows of any source: collected one by one, interpreted when all of them are known.

Whether texts are tags or captions, and whether a label is the only one or one attribute among others, depends on the
whole source. Formats therefore add rows of plain values, and items are built at the end.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from shards.core.errors import UserError
from shards.core.problems import Problems
from shards.dataset.schema import Attribute
from shards.sources.cells import (
    InvalidValue,
    Label,
    Tags,
    first_value,
    interpret_labels,
    parse_caption,
    parse_label,
    sanitize,
    shorten_names,
)
from shards.sources.columns import ALL, NUMBERS, WORDS, ColumnCollector, ColumnLabels
from shards.sources.item import ColumnUse, ImageRef, Item, Source
from shards.sources.options import ScanOptions
from shards.sources.spelling import merged_by_case, words_by_case
from shards.sources.tag_cells.dialect import TagDialect
from shards.sources.tag_cells.lists import read_numbers
from shards.sources.tag_cells.prompts import prompt_of
from shards.sources.tag_cells.texts import Texts, understand_texts
from shards.vocabulary.spelling import normalise

TAGS, LABEL, TEXT = ("tags",), ("label", "class", "labels"), ("text", "caption", "prompt")
FOLDER = "folder"


class RowKeys(NamedTuple):
    """The columns that hold tags, a class and a text; the first one of each that has a value counts.

    ``denied`` holds tags that do not apply to the image.
    """

    tags: tuple[str, ...] = TAGS
    label: tuple[str, ...] = LABEL
    text: tuple[str, ...] = TEXT
    denied: str = ""


_KEYS = RowKeys()


class _Row(NamedTuple):
    tags: Tags | str | None  # a text until the dialect of all texts is known
    label: Label | None
    vector: tuple[float, ...] | None
    group: str | None
    denied: Tags = ()


_EMPTY_ROW = _Row(None, None, None, None)


class RowCollector:
    """Collects the rows of a source.

    Args:
        where: the file that holds them, for messages.
        options: columns, group and labels to read.
        problems: counts values that cannot be read.
        reserved: columns with a special meaning in the format, besides those of tags, label and text.
        classes: True if a column "label" or "class" is a label even if ``--columns`` does not name it.
        keys: the columns that hold tags, a class and a text.
        columns: collects further columns (default: those that ``--columns``, ``--class`` and ``--numbers`` name).
    """

    def __init__(
        self,
        where: str,
        options: ScanOptions,
        problems: Problems,
        reserved: tuple[str, ...] = (),
        classes: bool = True,
        keys: RowKeys = _KEYS,
        columns: ColumnCollector | None = None,
    ) -> None:
        self.options, self.problems, self.classes, self.keys = options, problems, classes, keys
        self.group_column = options.group if options.group != FOLDER else None
        grouping = (self.group_column,) if self.group_column else ()
        taken = (*keys.tags, *(keys.label if classes else ()), *keys.text, *reserved, *grouping)
        self.reserved = frozenset(taken)
        self.columns = columns if columns is not None else _named_columns(where, options, taken)
        self.uses: tuple[ColumnUse, ...] = ()
        self.written: list[tuple[str, str]] = []
        self.parts: dict[int, str] = {}
        self.rows: list[_Row] = []
        self.texts: list[str | None] = []
        self.understood = Texts("")  # what the texts are, once the source is built
        self.interned: dict[Tags, Tags] = {}
        self.lists = TagDialect(min_weight=options.min_weight)  # of cells that are no texts

    def add(
        self,
        row: Mapping[str, Any],
        at: str,
        names: Mapping[str, list[str]] | None = None,
        part: str | None = None,
        written: Mapping[str, Any] | None = None,
    ) -> int:
        """Add a row. Values that cannot be read are counted and left out.

        Args:
            row: column → value, of the types that JSON has.
            at: the row's name in reports, such as "line 7".
            names: column → names of the classes that its numbers stand for.
            part: the part of the dataset that the row belongs to.
            written: the row as the source has it, if that is another one.

        Returns:
            The row's number, for `build_source`.
        """
        self.columns.add(row, self.problems, at)
        if self.options.keep_rows:
            self.written.append((at, row_as_written(written if written is not None else row)))
        if part:
            self.parts[len(self.rows)] = part
        tags = self._tags(row.get(self.keys.tags[0]), at)
        label = self._label(row, at, names or {})
        text = self._parse(parse_caption, first_value(row, self.keys.text), None, at)
        text = self._prompt(text, at) if text else text
        if isinstance(label, list):
            tags, label = (*(self.lists.tags(tags) or ()), *label), None
        single, vector = (None, label) if isinstance(label, tuple) else (label, None)
        group = row.get(self.group_column) if self.group_column else None
        denied = self._tags(row.get(self.keys.denied) or None, at) if self.keys.denied else None
        parsed = _Row(tags, single, vector, _group(group), denied if isinstance(denied, tuple) else ())
        self.rows.append(_EMPTY_ROW if parsed == _EMPTY_ROW else parsed)
        self.texts.append(text)
        return len(self.rows) - 1

    def class_numbers(self) -> set[int]:
        """Return the single labels of all rows if they are whole numbers; else nothing."""
        labels = {row.label for row in self.rows if row.label is not None}
        numbers = {label: word for label, word in interpret_labels(labels).items() if isinstance(word, str)}
        whole = len(numbers) == len(labels) and all(word.removeprefix("-").isdecimal() for word in numbers.values())
        return {int(word) for word in numbers.values()} - {-1} if whole else set()

    def name_classes(self, names: Mapping[int, str]) -> None:
        """Put the names of classes in place of the numbers that `class_numbers` returns."""
        for at, row in enumerate(self.rows if names else ()):
            if row.label is not None:
                number = int(float(row.label))
                if number == -1:
                    self.problems.add("label-negative")
                self.rows[at] = row._replace(label=names.get(number))

    def _tags(self, value: Any, at: str) -> Tags | str | None:
        if isinstance(value, str):
            return sys.intern(self._prompt(value.strip(), at))
        return self._parse(self.lists.tags, value, self.interned, at)

    def _prompt(self, text: str, at: str) -> str:
        """Return a text without the generation parameters that a program wrote after its prompt; count these."""
        prompt = prompt_of(text)
        if prompt != text.strip():
            self.problems.add("text-with-parameters", at)
        return prompt

    def _label(self, row: Mapping[str, Any], at: str, names: Mapping[str, list[str]]) -> Any:
        if not self.classes:
            return None
        column = next((name for name in self.keys.label if row.get(name) not in (None, "")), None)
        value = row.get(column) if column else None
        if column and isinstance(value, list) and column in names:
            words = [self._parse(parse_label, one, names[column], at) for one in value]
            return [normalise(word) for word in words if isinstance(word, str)]
        if isinstance(value, str) and value[:1] == "[":
            value = read_numbers(value) or value
        entries = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        if any(isinstance(entry, str | dict | list) for entry in entries):
            return list(self._parse(self.lists.tags, value, self.interned, at) or ())
        return self._parse(parse_label, value, names.get(column or ""), at)

    def _parse(self, parse: Any, value: Any, extra: Any, at: str) -> Any:
        try:
            return parse(value) if extra is None else parse(value, extra)
        except InvalidValue as error:
            self.problems.add("label-unreadable", f"{at}: {error}")
            return None

    def build_source(
        self, kind: str, images: Iterable[tuple[str, ImageRef, int | None]], one_class: bool = False
    ) -> Source:
        """Interpret all rows and return the source.

        Args:
            kind: the format's name.
            images: id, image and row of each item; an image without a row is unlabelled.
            one_class: True if the label is the only class of an image whatever else is known of it, and a name even
                if it looks like a number.

        Raises:
            UserError: a column or group does not exist, or vectors differ in length.
        """
        images = list(images)
        self._split_tag_texts()
        texts = self.understood = self._understand_texts()
        self._interpret_labels(one_class)
        columns = self._column_labels()
        tagged = texts.kind == "tags" or any(row.tags is not None for row in self.rows)
        labels = {str(row.label): None for row in self.rows if row.label is not None}
        attributes = list(columns.attributes)
        if labels and (tagged or attributes) and not one_class:
            attributes.append(self._class_attribute(labels, attributes))
        items = [self._item(id, image, row, texts, columns) for id, image, row in images]
        self.lists.report(self.problems)
        if texts.dialect:
            texts.dialect.report(self.problems)
        _check_vector_lengths(items)
        only_labels = bool(labels) and not tagged and not attributes
        return Source(
            kind,
            items,
            one_class=only_labels or one_class,
            attributes=tuple(attributes),
            problems=self.problems,
            columns=self.uses or self._column_uses(attributes),
            rows=self._written_rows(images),
        )

    def _column_uses(self, attributes: list[Attribute]) -> tuple[ColumnUse, ...]:
        """Return what became of each column, where no format has decided it."""
        kinds = {attribute.name: attribute for attribute in attributes}
        uses = []
        for name in self.columns.names:
            attribute = kinds.get(normalise(sanitize(name)))
            if name in self.keys.tags:
                use = ColumnUse(name, "tags")
            elif self.classes and name in self.keys.label:
                use = ColumnUse(name, "class")
            elif name in self.keys.text:
                use = ColumnUse(name, "text")
            elif name == self.group_column:
                use = ColumnUse(name, "group", "--group")
            elif name in self.columns.positions and attribute:
                several = attribute.kind == "exclusive"
                use = ColumnUse(name, f"exclusive attribute, {len(attribute.values):,} values" if several else "tag")
            elif name in self.columns.positions:
                use = ColumnUse(name, "numbers")
            elif name in self.reserved:
                use = ColumnUse(name, "", "names the image")
            else:
                use = ColumnUse(name, "", f"not selected; --columns {name}")
            uses.append(use)
        return tuple(uses)

    def _written_rows(self, images: list[tuple[str, ImageRef, int | None]]) -> dict[str, tuple[str, str]]:
        if not self.options.keep_rows:
            return {}
        return {id: self.written[number] for id, _, number in images if number is not None}

    def _split_tag_texts(self) -> None:
        dialect = self._dialect((row.tags for row in self.rows if isinstance(row.tags, str)), are_tags=True)
        for number, row in enumerate(self.rows):
            if isinstance(row.tags, str):
                self.rows[number] = row._replace(tags=self._parse(dialect.tags, row.tags, self.interned, ""))
        dialect.report(self.problems)

    def _dialect(self, cells: Iterable[str], are_tags: bool) -> TagDialect:
        return TagDialect.infer(cells, are_tags=are_tags, min_weight=self.options.min_weight)

    def _interpret_labels(self, one_class: bool) -> None:
        """Turn single labels into words, vectors, or tags if they are lists; names of classes are words."""
        labels = {row.label for row in self.rows if row.label is not None}
        interpreted = {label: label for label in labels} if one_class else interpret_labels(labels)
        no_class = set[Label]() if one_class else _no_class(interpreted)
        spelled = words_by_case([str(word) for word in interpreted.values() if not isinstance(word, tuple)])
        for names in merged_by_case(spelled):
            self.problems.add("class-names-merged", " and ".join(names))
        words = (row.label for row in self.rows if isinstance(row.label, str) and interpreted[row.label] is row.label)
        dialect = TagDialect(()) if one_class else self._dialect(words, are_tags=False)
        for number, row in enumerate(self.rows):
            if row.label is None:
                continue
            label = interpreted[row.label]
            if row.label in no_class:
                self.problems.add("label-negative")
                self.rows[number] = row._replace(label=None)
            elif isinstance(label, tuple):
                self.rows[number] = row._replace(label=None, vector=label)
            elif dialect.has_several and isinstance(row.label, str):
                own = row.tags if isinstance(row.tags, tuple) else ()
                tags = self._parse(dialect.tags, row.label, self.interned, "") or ()
                self.rows[number] = row._replace(label=None, tags=(*own, *tags))
            else:
                self.rows[number] = row._replace(label=sys.intern(spelled[str(label)]) or None)
        dialect.report(self.problems)

    def _column_labels(self) -> ColumnLabels:
        if self.group_column:
            self.columns.require(self.group_column, "--group")
        if self.columns:
            return self.columns.labels(self.problems)
        return ColumnLabels((), [], [], [])

    def _understand_texts(self) -> Texts:
        """Return what the texts are: captions in rows that also have tags. Those that are numbers become labels."""
        pairs = zip(self.rows, self.texts, strict=True)
        cells = [text for row, text in pairs if text and row.tags is None]
        labels = self.options.labels
        if labels not in ("tags", "caption") and any(row.tags is not None for row in self.rows):
            labels = "caption"
            cells = [text for text in self.texts if text]
        texts = understand_texts(cells, forced=labels, min_weight=self.options.min_weight)
        if texts.kind in ("numbers", "boxes", "codes"):
            self.problems.add(f"texts-are-{texts.kind}", count=len(cells))
            for number, text in enumerate(self.texts):
                row = self.rows[number]
                if text and texts.kind == "numbers" and row.label is None and row.vector is None:
                    self.rows[number] = row._replace(label=self._parse(parse_label, text, None, ""))
            self.texts = [None] * len(self.texts)
        return texts

    @staticmethod
    def _class_attribute(labels: dict[str, None], attributes: list[Attribute]) -> Attribute:
        """Return an exclusive attribute for the labels of rows that also have tags."""
        used = {word for attribute in attributes for word in attribute.values}
        name = "class" if all(attribute.name != "class" for attribute in attributes) else "class label"
        return Attribute(name, "exclusive", tuple(sorted(label for label in labels if label not in used)))

    def _item(self, id: str, image: ImageRef, number: int | None, texts: Texts, columns: ColumnLabels) -> Item:
        row = _EMPTY_ROW if number is None else self.rows[number]
        words: list[str] | None = None if row.tags is None else list(row.tags)
        caption = None
        if number is not None and (text := self.texts[number]):
            self.texts[number] = None  # saves memory with a million texts; rows that images share have no text
            if not texts.dialect or row.tags is not None:
                caption = self._caption(text, texts)
            elif (read := self._parse(texts.dialect.tags, text, self.interned, id)) is not None:
                words = list(read)
        if row.label is not None:
            words = [*(words or ()), str(row.label)]
        denied = row.denied
        vector = row.vector
        if number is not None and columns.tags:
            if more := columns.tags[number]:
                words = [*(words or ()), *more]
            denied = (*denied, *columns.denied[number])
            vector = columns.vectors[number] if vector is None else vector
        words = words if words is not None or not denied else []  # a row of noes is a label
        tags = None if words is None else tuple(dict.fromkeys(words))
        group = row.group
        if self.options.group == FOLDER:
            group = sys.intern(id.rpartition("/")[0] or ".")  # SRC itself is a folder too
        part = self.parts.get(number) if number is not None else None
        return Item(id, image, tags and self.interned.setdefault(tags, tags), denied, caption, vector, group, part)

    def _caption(self, text: str, texts: Texts) -> str:
        first, _, rest = text.partition("\n")
        if rest and texts.several:
            self.problems.add("caption-first-of-several")
            text = first
        return " ".join(text.split())


def row_as_written(row: Mapping[str, Any]) -> str:
    """Return a row on one line, for people."""
    shown = {name: cell for name, cell in row.items() if cell not in (None, "")}
    try:
        text = json.dumps(shown, ensure_ascii=False, default=str)
    except (ValueError, RecursionError):
        text = shorten_names(shown)
    return sanitize(text if len(text) <= 300 else f"{text[:300]}…")


def _named_columns(where: str, options: ScanOptions, reserved: Iterable[str]) -> ColumnCollector:
    """Return what collects the columns that options name."""
    kinds = dict.fromkeys(options.class_, WORDS) | dict.fromkeys(options.numbers, NUMBERS)
    if options.columns == (ALL,):
        return ColumnCollector(where, options.columns, reserved, kinds)
    selected = (*options.columns, *(name for name in kinds if name not in options.columns))
    return ColumnCollector(where, selected, reserved, kinds)


def _no_class(interpreted: Mapping[Label, Any]) -> set[Label]:
    """Return the labels that are -1 among classes 0, 1, …: images without a class."""
    words = [word for word in interpreted.values() if isinstance(word, str)]
    if "-1" not in words or len({*words}) < 3 or not all(word == "-1" or word.isdigit() for word in words):
        return set()
    return {label for label, word in interpreted.items() if word == "-1"}


def _group(value: Any) -> str | None:
    if value is None or value == "" or isinstance(value, list | dict):
        return None
    return sys.intern(sanitize(str(value)[:1000]))


def _check_vector_lengths(items: list[Item]) -> None:
    """Raise UserError if vectors differ in length."""
    size, first = 0, ""
    for item in items:
        if item.vector is not None:
            size, first = size or len(item.vector), first or item.id
            if len(item.vector) != size:
                raise UserError(
                    "vector-lengths-differ",
                    f"{item.id}: its vector has {len(item.vector)} numbers, but that of {first} has {size}; "
                    "all vectors must have one length",
                )
