"""Declare the options of a command as the fields of a dataclass."""

from __future__ import annotations

import dataclasses
import functools
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from shards.core.rng import LARGEST_SEED

T = TypeVar("T")


def option(
    default: Any,
    doc: str | Callable[[], str],
    *,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    may_change: bool = False,
    literal: bool = False,
) -> Any:
    """Return a dataclass field that is an option ``--name VALUE``.

    Args:
        default: the option's default value.
        doc: its help text, or what returns it, for a text that takes imports to know.
        choices: the allowed values.
        minimum, maximum: inclusive bounds.
        above: an exclusive minimum.
        may_change: for options of something that can be resumed: whether the value may differ then.
        literal: of an optional word: whether "none" is that word, not the absence of one, and an empty word an error.
            Paths are literal anyway.
    """
    bounds = {"choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(
        default=default, metadata={"doc": doc, **bounds, "may_change": may_change, "literal": literal}
    )


def seed_option(doc: str) -> Any:
    """Return a dataclass field that is the option ``--seed``, with the same range in every command."""
    return option(0, doc, minimum=0, maximum=LARGEST_SEED)


def section(cls: type[T]) -> T:
    """Return a dataclass field that holds a group of options, whose defaults are those of ``cls``."""
    return dataclasses.field(default_factory=cls)


def argument(doc: str) -> Any:
    """Return a dataclass field that is a required positional argument; a ``tuple[str, ...]`` takes all that follow."""
    return dataclasses.field(metadata={"doc": doc, "positional": True})


class Interface:
    """The positional arguments and options of a dataclass, with resolved types.

    A field that is itself a dataclass is a section: its options are listed like the dataclass's own, under their plain
    names. The order is that of declaration, unless a class attribute ``OPTION_ORDER`` lists names that come first.
    """

    def __init__(self, cls: type) -> None:
        hints = typing.get_type_hints(cls)
        self.cls = cls
        self.sections: dict[str, Interface] = {}
        fields: dict[str, dataclasses.Field[Any]] = {}
        kinds: dict[str, Any] = {}
        for field in dataclasses.fields(cls):
            kind = hints[field.name]
            inner = interface(kind) if dataclasses.is_dataclass(kind) else None
            if inner is not None:
                self.sections[field.name] = inner
            added = {field.name: field} if inner is None else inner.fields
            if twice := added.keys() & fields.keys():
                raise TypeError(f"{cls.__name__} has two options named {', '.join(sorted(twice))}")
            fields |= added
            kinds |= {field.name: kind} if inner is None else inner.types
        order = (*getattr(cls, "OPTION_ORDER", ()), *fields)
        self.fields = {name: fields[name] for name in order}
        self.types = {name: kinds[name] for name in order}
        self.positional = [n for n, f in self.fields.items() if f.metadata.get("positional")]
        self.named = [n for n in self.fields if n not in self.positional]

    def is_flag(self, name: str) -> bool:
        """Return whether the option is a boolean, which needs no value."""
        return self.types[name] is bool


@functools.cache
def interface(cls: type) -> Interface:
    """Return the (cached) interface of a dataclass."""
    return Interface(cls)


def make(cls: type[T], values: Mapping[str, Any]) -> T:
    """Return an instance of a dataclass, and of its sections, from flat values by option name."""
    face = interface(cls)
    own = {name: value for name, value in values.items() if all(name not in s.fields for s in face.sections.values())}
    parts = {
        section: make(inner.cls, {name: value for name, value in values.items() if name in inner.fields})
        for section, inner in face.sections.items()
    }
    return cls(**own, **parts)


def flatten(options: Any) -> dict[str, Any]:
    """Return the values of an options object and of its sections by option name, in the interface's order."""
    face = interface(type(options))
    found: dict[str, Any] = {}
    for section in face.sections:
        found |= flatten(getattr(options, section))
    return {name: found[name] if name in found else getattr(options, name) for name in face.fields}


def flag(name: str) -> str:
    """Return the option ``--some-name`` of a field ``some_name``; ``class_`` is ``--class``."""
    return f"--{name.rstrip('_').replace('_', '-')}"
