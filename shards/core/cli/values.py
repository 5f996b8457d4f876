"""Convert the words of a command line, and the values of YAML, to the types of options, and check them."""

from __future__ import annotations

import contextlib
import difflib
import math
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shards.core.cli.interface import flag, flatten, interface
from shards.core.errors import UserError

_ABSENT = ("none", "null", "")
BOOLEANS: dict[str, bool] = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}


def coerce(cls: type, name: str, value: Any, where: str = "") -> Any:
    """Return ``value`` (a command-line word or a YAML value) converted to the type of field ``name``.

    Raises:
        UserError: the value is not valid; the message names the option, ``where`` it was found and what is valid.
    """
    face = interface(cls)
    label = (name.upper() if name in face.positional else flag(name)) + (f" ({where})" if where else "")
    try:
        result = _convert(face.types[name], value, is_literal(cls, name))
    except (ValueError, TypeError, OverflowError, RuntimeError):  # RuntimeError: ~NAME without such a user
        hint = "; YAML reads no, off, yes and on as truth values: put them in quotes" if isinstance(value, bool) else ""
        raise UserError("invalid-value", f"{label}: {value!r} is not {_describe(cls, name)}{hint}") from None
    check_bounds(cls, name, result, label)
    return result


def is_literal(cls: type, name: str) -> bool:
    """Return whether "none" is a value like any other: a folder or a person's words may be called so."""
    face = interface(cls)
    return face.fields[name].metadata.get("literal", False) or Path in typing.get_args(face.types[name])


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


def _convert(kind: Any, value: Any, literal: bool = False) -> Any:
    if typing.get_origin(kind) in (types.UnionType, typing.Union):
        inner = [k for k in typing.get_args(kind) if k is not type(None)]
        if value is None or (not literal and isinstance(value, str) and value.lower() in _ABSENT):
            return None
        if value == "":
            raise ValueError  # the variable of a shell that is not set
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
        if str(value).lower() not in BOOLEANS:
            raise ValueError
        return BOOLEANS[str(value).lower()]
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


def _describe(cls: type, name: str) -> str:
    kind = interface(cls).types[name]
    if typing.get_origin(kind) not in (types.UnionType, typing.Union):
        return _describe_kind(kind)
    may_be_none = type(None) in typing.get_args(kind) and not is_literal(cls, name)
    return _describe_kind(typing.get_args(kind)[0]) + (" or none" if may_be_none else "")


def _describe_kind(kind: Any) -> str:
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "a word", Path: "a path"}
    if kind in names:
        return names[kind]
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        inner = names.get(arguments[0], "value").removeprefix("a ")
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}{inner}s, like 1,2"
    return "a value"
