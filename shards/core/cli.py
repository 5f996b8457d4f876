"""Strict command-line parsing for every command.

A frozen dataclass *is* the interface of a command: each field is an option with its type, default and help. What fire
would let pass is checked before anything runs: unknown options, missing values, wrong types, words after ``--``.

    @dataclass(frozen=True)
    class Greet:
        "Greet somebody."
        name: str = argument("whom to greet")
        times: int = option(1, "how often", minimum=1)

    options = parse(Greet, ["Ada", "--times", "3"], command="greet")
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import functools
import importlib
import inspect
import math
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import fire
from fire.decorators import SetParseFn

from shards.core.errors import UserError

T = TypeVar("T")

_BOOLEANS: dict[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def option(
    default: Any,
    doc: str,
    *,
    choices: Sequence[str] | None = None,
    minimum: float | None = None,
    maximum: float | None = None,
    above: float | None = None,
    may_change: bool = False,
) -> Any:
    """Return a dataclass field that is an option ``--name VALUE``.

    Args:
        default: the option's default value.
        doc: its help text.
        choices: the allowed values.
        minimum, maximum: inclusive bounds.
        above: an exclusive minimum.
        may_change: for options of something that can be resumed: whether the value may differ then.
    """
    bounds = {"choices": choices, "minimum": minimum, "maximum": maximum, "above": above}
    return dataclasses.field(default=default, metadata={"doc": doc, **bounds, "may_change": may_change})


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


# ---------------------------------------------------------------- values


def coerce(cls: type, name: str, value: Any, where: str = "") -> Any:
    """Return ``value`` (a command-line word or a YAML value) converted to the type of field ``name``.

    Raises:
        UserError: the value is not valid; the message names the option, ``where`` it was found and what is valid.
    """
    face = interface(cls)
    label = (name.upper() if name in face.positional else flag(name)) + (f" ({where})" if where else "")
    try:
        result = _convert(face.types[name], value)
    except (ValueError, TypeError, OverflowError, RuntimeError):  # RuntimeError: ~NAME without such a user
        raise UserError("invalid-value", f"{label}: {value!r} is not {_describe(face.types[name])}") from None
    check_bounds(cls, name, result, label)
    return result


def check_bounds(cls: type, name: str, value: Any, label: str) -> None:
    """Check a converted value against the bounds and choices of its field.

    Raises:
        UserError: the value is not allowed.
    """
    rules = interface(cls).fields[name].metadata
    if value is None:
        return
    choices = rules.get("choices")
    for single in value if isinstance(value, tuple) else (value,):
        if choices and single not in choices:
            near = difflib.get_close_matches(str(single), choices, 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UserError("invalid-value", f"{label}: {single!r} is not one of {', '.join(choices)}{hint}")
        if (low := rules.get("minimum")) is not None and single < low:
            raise UserError("invalid-value", f"{label}: {single} is too small, it must be at least {low}")
        if (low := rules.get("above")) is not None and single <= low:
            raise UserError("invalid-value", f"{label}: {single} is too small, it must be above {low}")
        if (high := rules.get("maximum")) is not None and single > high:
            raise UserError("invalid-value", f"{label}: {single} is too large, it must be at most {high}")


def validate(options: Any) -> None:
    """Check every field of an options object against its bounds and choices, for its ``__post_init__``.

    Raises:
        UserError: a value is not allowed.
    """
    for name, value in flatten(options).items():
        check_bounds(type(options), name, value, flag(name))


def _convert(kind: Any, value: Any) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None or (isinstance(value, str) and value.lower() in ("none", "null", "")):
            return None
        return _convert_to_first(inner, value)
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)
        parts = value.strip("()[] ").split(",") if isinstance(value, str) else list(value)
        parts = [p.strip() if isinstance(p, str) else p for p in parts if p != ""]
        if inner[-1] is not Ellipsis and len(parts) != len(inner):
            raise ValueError
        return tuple(_convert(inner[0], part) for part in parts)
    if kind is bool:
        if isinstance(value, bool):
            return value
        if str(value).lower() not in _BOOLEANS:
            raise ValueError
        return _BOOLEANS[str(value).lower()]
    if isinstance(value, bool):
        raise ValueError  # in YAML, `batch: yes` is not the number 1
    if kind is int:
        return _whole_number(value)
    if kind is float:
        number = float(value)
        if not math.isfinite(number):
            raise ValueError
        return number
    if kind is Path:
        if not str(value):
            raise ValueError
        return Path(value).expanduser()
    return kind(value)


def _convert_to_first(kinds: Sequence[Any], value: Any) -> Any:
    """Convert to the first of several types that takes the value: ``float | str`` is a number, or else a word."""
    for kind in kinds[:-1]:
        with contextlib.suppress(ValueError):
            return _convert(kind, value)
    return _convert(kinds[-1], value)


def _whole_number(value: Any) -> int:
    try:
        return int(value) if isinstance(value, str) else int(_integral(float(value)))
    except ValueError:
        return int(_integral(float(value)))  # "1e6"


def _integral(number: float) -> float:
    if not number.is_integer():
        raise ValueError
    return number


def _describe(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", Path: "a path"}
    if kind in names:
        return names[kind]
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        inner = names.get(arguments[0], "value").removeprefix("a ")
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{inner}s, like 1,2"
    return _describe(arguments[0]) + " or none"


# ---------------------------------------------------------------- the command line


def raw_values(cls: type, argv: Sequence[str], *, also: Iterable[str] = ()) -> dict[str, str]:
    """Return the unconverted words of a command line by field name.

    Args:
        cls: the dataclass whose fields are the options.
        argv: the words after the name of the command.
        also: names of further options that are not fields, such as ``config``.

    Raises:
        UserError: an unknown option, a missing value, too many arguments, a ``--``.
    """
    face = interface(cls)
    extra = tuple(also)
    words, positional = _normalise(face, argv, extra)
    taken: dict[str, str] = {}

    def receive(**values: str) -> None:
        taken.update({name: value for name, value in values.items() if value is not _ABSENT})

    # With real parameter names, fire pairs each word with its option; `str` keeps it from evaluating the words.
    names = [*face.named, *extra]
    receive.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, default=_ABSENT) for n in names]
    )
    fire.Fire(SetParseFn(str)(receive), command=words)
    _take_positional(face, positional, taken)
    return taken


_ABSENT: Any = object()


def _normalise(face: Interface, argv: Sequence[str], extra: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return every option as ``--name=value`` under its field name, and the positional words."""
    words: list[str] = []
    positional: list[str] = []
    queue = list(argv)
    while queue:
        word = queue.pop(0)
        if word == "--":
            raise UserError(
                "unexpected-argument",
                f"'--' is not supported here (followed by {' '.join(queue[:1]) or 'nothing'!r}); remove it",
            )
        if not word.startswith("--"):
            if len(word) > 1 and word[0] == "-" and word[1].isalpha():
                raise UserError(
                    "unknown-option", f"unknown option {word!r}: options are written --name VALUE; see --help"
                )
            positional.append(word)
            continue
        name, equals, value = word[2:].partition("=")
        name = name.replace("-", "_")
        name = f"{name}_" if f"{name}_" in face.named else name
        if name not in face.named and name not in extra:
            negated = name.removeprefix("no_") if name.startswith("no_") else name.removeprefix("no")
            if negated in face.named and face.is_flag(negated) and not equals:
                words.append(f"--{negated}=false")
                continue
            raise UserError("unknown-option", unknown_option(name, [*face.named, *extra], "command line"))
        if not equals:
            if name in face.named and face.is_flag(name):
                value = queue.pop(0) if queue and queue[0].lower() in _BOOLEANS else "true"
            elif queue and not queue[0].startswith("--"):
                value = queue.pop(0)
            else:
                raise UserError("missing-value", f"{flag(name)} needs a value; see --help")
        words.append(f"--{name}={value}")
    return words, positional


def _take_positional(face: Interface, words: list[str], taken: dict[str, Any]) -> None:
    rest = list(words)
    for name in face.positional:
        if typing.get_origin(face.types[name]) is tuple:
            taken[name], rest = rest, []
        elif rest:
            taken[name] = rest.pop(0)
        if not taken.get(name):
            raise UserError(
                "missing-argument", f"{name.upper()} is missing ({face.fields[name].metadata['doc']}); see --help"
            )
    if rest:
        raise UserError(
            "unexpected-argument", f"unexpected argument {rest[0]!r}: options are written --name VALUE; see --help"
        )


def unknown_option(name: str, known: Sequence[str], where: str) -> str:
    """Return the message for an option that does not exist, with the nearest one that does."""
    near = difflib.get_close_matches(name, known, 1, 0.5)
    hint = f"did you mean {flag(near[0])}?" if near else "see --help"
    return f"unknown option {flag(name)}{f' ({where})' if where else ''}; {hint}"


# ---------------------------------------------------------------- whole commands


def parse(cls: type[T], argv: Sequence[str], *, command: str) -> T:
    """Return the options object of a command line.

    Raises:
        UserError: the command line is not valid.
        SystemExit: with status 0, after --help was printed.
    """
    if wants_help(argv):
        print(usage(cls, command))
        raise SystemExit(0)
    raw = raw_values(cls, argv)
    return make(cls, {name: coerce(cls, name, value) for name, value in raw.items()})


def wants_help(argv: Sequence[str]) -> bool:
    """Return True if the words contain -h or --help."""
    return bool({"-h", "--help"} & set(argv))


def usage(cls: type, command: str, extra: Mapping[str, str] | None = None) -> str:
    """Return the help text: purpose, synopsis, and one line per option with its default."""
    face = interface(cls)
    synopsis = " ".join(
        [
            command,
            *(n.upper() + (" …" if typing.get_origin(face.types[n]) is tuple else "") for n in face.positional),
            "[--option VALUE …]",
        ]
    )
    rows = [(n.upper(), face.fields[n].metadata["doc"]) for n in face.positional]
    rows += [(f"--{n} VALUE", doc) for n, doc in (extra or {}).items()]
    for name in face.named:
        rules = face.fields[name].metadata
        default = face.fields[name].default
        shown = "|".join(rules.get("choices") or ()) or _metavar(face.types[name])
        rows.append((flag(name) + (f" {shown}" if shown else ""), rules["doc"] + _default(default)))
    width = min(max(len(left) for left, _ in rows), 38)
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", f"usage: {synopsis}", ""]
    for left, right in rows:
        lines.append(f"  {left:<{width}}  {right}" if len(left) <= width else f"  {left}\n  {'':<{width}}  {right}")
    return "\n".join(lines)


def _metavar(kind: Any) -> str:
    names = {int: "N", float: "X", bool: "", str: "WORD", Path: "PATH"}
    if kind in names:
        return names[kind]
    inner = names.get(typing.get_args(kind)[0], "VALUE")
    return f"{inner},{inner},…" if typing.get_origin(kind) is tuple else inner


def _default(value: Any) -> str:
    if value is None or value is False or value == () or value == "":
        return ""
    text = "yes" if value is True else ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return f" [{text}]"


def dispatch(commands: Mapping[str, tuple[str, str]], argv: Sequence[str], *, program: str, version: str) -> None:
    """Run the subcommand that ``argv`` names.

    Args:
        commands: name -> (one-line help, "module:function"); the function takes the remaining words. Its module is
            imported when it is called, so that a command does not wait for the imports of another.

    Raises:
        UserError: there is no such command.
    """
    if argv and argv[0] == "--version":
        print(version)
        return
    if not argv or argv[0] in ("-h", "--help", "help"):
        width = max(map(len, commands))
        print(f"usage: {program} COMMAND …   ({program} COMMAND --help for details)\n")
        print("\n".join(f"  {name:<{width}}  {doc}" for name, (doc, _) in commands.items()))
        return
    if argv[0] not in commands:
        near = difflib.get_close_matches(argv[0], commands, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"available: {', '.join(commands)}"
        raise UserError("unknown-command", f"unknown command {argv[0]!r}; {hint}")
    module, function = commands[argv[0]][1].split(":")
    getattr(importlib.import_module(module), function)(argv[1:])
