"""Which columns of a table become labels: those that options name, or else what the table is made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from shards.core.errors import UserError
from shards.sources.cells import shorten_names
from shards.sources.columns import ALL
from shards.sources.item import ColumnUse
from shards.sources.labelled_tables.column_names import is_label, part_of_flag, unnumbered
from shards.sources.labelled_tables.facts import ColumnFacts
from shards.sources.labelled_tables.roles import Kind, Role
from shards.sources.options import ScanOptions
from shards.sources.rows import FOLDER

_LABELS = frozenset({Kind.CLASS, Kind.YES_NO, Kind.NUMBER, Kind.TAGS})  # what --columns NAME alone makes a label


@dataclass
class Selection:
    """The columns that are used, by what they become.

    Attributes:
        tags: columns of tags.
        label: the one column of classes, if there is no other label; or a class beside tags.
        text: a column of captions, or of texts that are tags.
        classes, yes_no, numbers: columns that become attributes, tags, and a vector.
        others: columns that ``--columns`` names and whose type their cells decide.
        group, part: columns that divide the images.
        flags: columns such as is_train, which say whether an image is in a part.
        order: the columns, in the order of their attributes.
        uses: what became of each column, for people.
    """

    tags: list[str] = field(default_factory=list)
    label: str | None = None
    text: str | None = None
    classes: list[str] = field(default_factory=list)
    yes_no: list[str] = field(default_factory=list)
    numbers: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)
    group: str | None = None
    part: str | None = None
    flags: list[str] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    uses: list[ColumnUse] = field(default_factory=list)

    @property
    def attributes(self) -> list[str]:
        """All columns that become attributes, tags or numbers."""
        used = [*self.classes, *self.yes_no, *self.numbers, *self.others]
        return [name for name in self.order if name in used]

    @property
    def labels(self) -> list[str]:
        """All columns that say something of an image."""
        single = [name for name in (self.label, self.text) if name is not None]
        return [*self.tags, *single, *self.attributes]


def select_columns(
    where: str, roles: Mapping[str, Role], facts: Mapping[str, ColumnFacts], options: ScanOptions, with_label: bool
) -> Selection:
    """Return which columns become labels.

    Args:
        where: the table, for messages.
        roles: column → what it is.
        facts: column → its cells.
        options: names columns; with none named, tags win over classes, and classes over nothing.
        with_label: True if a column that is named like a label is used besides tags.

    Raises:
        UserError: an option names a column that does not exist or cannot be used.
    """
    _check_names(where, roles, options)
    chosen = Selection()
    everything = options.columns == (ALL,)
    extra = () if everything else options.columns
    named = {*options.class_, *options.numbers, *extra}
    label_named = any(roles[name].kind == Kind.CLASS and roles[name].is_label for name in extra)
    chosen.order = list(dict.fromkeys([*extra, *options.class_, *options.numbers, *roles]))

    def of(*kinds: Kind) -> list[str]:
        return [name for name, role in roles.items() if role.kind in kinds and name not in named]

    chosen.group = options.group if options.group not in (None, FOLDER) else next(iter(of(Kind.GROUP)), None)
    chosen.flags = [name for name in of(Kind.PART) if part_of_flag(name)]
    chosen.part = next((name for name in of(Kind.PART) if name not in chosen.flags), None)
    chosen.text = next(iter(of(Kind.CAPTION)), None)
    # A column that is tags by its cells alone must have some for most images.
    full = [name for name in of(Kind.TAGS) if roles[name].is_label or facts[name].filled * 2 >= facts[name].rows]
    chosen.tags = sorted(full, key=lambda name: not roles[name].is_label)[:1]
    if chosen.tags and roles[chosen.tags[0]].is_label:  # tag1, tag2, … are one list
        first = unnumbered(chosen.tags[0])
        chosen.tags = [name for name in full if roles[name].is_label and unnumbered(name) == first]
    numbered = [name for name in of(Kind.TAGS) if roles[name].is_numbered]
    if numbered and not any(roles[name].is_label for name in chosen.tags):
        chosen.tags = numbered
    chosen.classes, chosen.numbers = list(options.class_), list(options.numbers)
    for name in extra:
        _add_named(chosen, where, roles[name], facts[name])
    if everything:
        chosen.classes += of(Kind.CLASS)
        chosen.yes_no += of(Kind.YES_NO)
        chosen.numbers += [name for name in of(Kind.NUMBER) if not facts[name].is_unique or facts[name].rows <= 20]
        chosen.tags = of(Kind.TAGS)
    elif not named and not chosen.tags:
        chosen.classes, chosen.yes_no = of(Kind.CLASS), of(Kind.YES_NO)
        chosen.tags = [] if chosen.classes or chosen.yes_no else of(Kind.TAGS)
    elif not named and chosen.tags == numbered:  # they say less than columns of tags, which stand for all labels
        chosen.classes, chosen.yes_no = of(Kind.CLASS), of(Kind.YES_NO)
    elif (with_label or not chosen.tags) and not options.class_ and not options.numbers and not label_named:
        chosen.label = next((name for name in of(Kind.CLASS) if roles[name].is_label), None)
    _choose_label(chosen, roles, named)
    chosen.uses = [_use(roles[name], facts[name], chosen) for name in roles]
    return chosen


def _choose_label(chosen: Selection, roles: Mapping[str, Role], named: Iterable[str]) -> None:
    """Make the one column of classes the label: its values stand alone."""
    if chosen.label is not None:
        return
    free = [name for name in chosen.classes if name not in named]
    labels = [name for name in free if roles[name].is_label]
    alone = len(chosen.attributes) == 1 and not chosen.tags
    if len(labels) == 1 or (alone and free):
        chosen.label = labels[0] if len(labels) == 1 else free[0]
        chosen.classes.remove(chosen.label)


def _add_named(chosen: Selection, where: str, role: Role, fact: ColumnFacts) -> None:
    """Add a column that --columns names, as what it is."""
    name = role.column
    if role.kind == Kind.ID:
        raise UserError("column-unusable", f"--columns {name}: {where}: it names the images; omit it")
    if role.kind == Kind.ROW_NUMBER:
        raise UserError(
            "column-unusable", f"--columns {name}: {where}: {role.why}; use --class {name} or --numbers {name}"
        )
    if role.kind == Kind.TAGS:
        chosen.tags.append(name)
    elif role.kind == Kind.CLASS and is_label(name) and chosen.label is None:
        chosen.label = name  # its cells may be lists, or numbers that are no classes
    elif role.kind == Kind.CLASS and (role.is_label or fact.numbers() is not None):
        chosen.classes.append(name)
    elif role.kind == Kind.YES_NO:
        chosen.yes_no.append(name)
    elif role.kind != Kind.CAPTION:
        chosen.others.append(name)
    else:
        chosen.text = name


def _check_names(where: str, roles: Mapping[str, Role], options: ScanOptions) -> None:
    given = [("--class", options.class_), ("--numbers", options.numbers)]
    given.append(("--columns", () if options.columns == (ALL,) else options.columns))
    given.append(("--group", (options.group,) if options.group not in (None, FOLDER) else ()))
    seen: set[str | None] = set()
    for option, names in given:
        for name in names:
            if name not in roles:
                columns = shorten_names(roles, 40)
                raise UserError(
                    "unknown-column", f"{option} {name}: {where} has no such column; its columns are: {columns}"
                )
            if name in seen and option != "--group":
                raise UserError(
                    "repeated-column", f"{option} {','.join(map(str, names))}: names a column twice; name each once"
                )
            seen.add(name)


def _use(role: Role, fact: ColumnFacts, chosen: Selection) -> ColumnUse:
    """Return what became of a column."""
    name, values = role.column, f", {fact.different:,} values"
    if role.kind == Kind.ID:
        return ColumnUse(name, "id", "its values name the images")
    if name == chosen.label:
        return ColumnUse(name, f"class{values}", role.why)
    if name == chosen.text:
        return ColumnUse(name, "text", role.why)
    if name == chosen.group:
        return ColumnUse(name, "group", role.why if role.kind == Kind.GROUP else "--group")
    if name == chosen.part or name in chosen.flags:
        return ColumnUse(name, "part", role.why)
    if name in chosen.tags:
        return ColumnUse(name, "tags", role.why)
    if name in chosen.classes:
        return ColumnUse(name, f"exclusive attribute{values}", role.why if role.kind == Kind.CLASS else "--class")
    if name in chosen.yes_no:
        return ColumnUse(name, "tag", role.why)
    if name in chosen.numbers or name in chosen.others:
        is_number = role.kind == Kind.NUMBER or fact.numbers() is not None
        return ColumnUse(name, "numbers" if is_number else f"exclusive attribute{values}", "named by an option")
    option = role.option or (f"--columns {name}" if role.kind in _LABELS else "")
    why = role.why if not option else f"{role.why}; {option.replace(' or ', f' {name} or ')}"
    return ColumnUse(name, "", why if not role.option.endswith(("class", "numbers")) else f"{why} {name}")
